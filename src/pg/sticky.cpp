// The contact of a lead; see sticky.h.
#include "sticky.h"
#include "attempt.h"
#include "rule_set.h"

extern "C" {
#include "common/hashfn.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
}

void sticky_read(RuleSet* set, HeapTuple row, int first) {
    TupleDesc columns = SPI_tuptable->tupdesc;
    char* text = SPI_getvalue(row, columns, first);
    bool isnull;
    Datum window = SPI_getbinval(row, columns, first + 2, &isnull);
    if (text == NULL || isnull || set->report_only)
        return;
    Sticky* sticky = static_cast<Sticky*>(MemoryContextAllocZero(set->context, sizeof(Sticky)));
    sticky->text = MemoryContextStrdup(set->context, text);
    sticky->author = MemoryContextStrdup(set->context, SPI_getvalue(row, columns, first + 1));
    sticky->window = *DatumGetIntervalP(window);
    const pg_uuid_t* salt = DatumGetUUIDP(SPI_getbinval(row, columns, first + 3, &isnull));
    memcpy(&sticky->seed, salt->data, sizeof(sticky->seed));
    sticky->table = MemoryContextStrdup(set->context, SPI_getvalue(row, columns, first + 4));
    set->sticky = sticky;
}

struct Compile {
    RuleSet* set;
    Relation lead;
    Oid role;
};

static void compile(void* argument) {
    const Compile* compile = static_cast<const Compile*>(argument);
    Sticky* sticky = compile->set->sticky;
    Condition condition = {};
    condition.lead = compile->lead;
    condition.rule = sticky->table;
    condition.text = sticky->text;
    condition.author = compile->role;
    condition.use = ExpressionUse::contact;
    condition_parse(&condition);
    rule_expression_keep(compile->set, &condition, sticky->author, &sticky->expression);
}

static void leave_out(RuleSet* set) {
    const Sticky* sticky = set->sticky;
    set->sticky = NULL;
    set->broken = true;
    if (set->rehearsal || XactReadOnly)
        return;
    Alert alert = {};
    alert.kind = "rule_error";
    alert.tenant = set->tenant;
    alert.lead_table = set->lead_table;
    alert.message = psprintf("sticky_on of \"%s\" is inactive: its author, role \"%s\", does not "
                             "exist",
                             sticky->table, sticky->author);
    raise_alert(&alert);
}

void sticky_compile(RuleSet* set, Relation lead) {
    Sticky* sticky = set->sticky;
    if (sticky == NULL)
        return;
    Compile work = {set, lead, get_role_oid(sticky->author, true)};
    if (!OidIsValid(work.role)) {
        leave_out(set);
        return;
    }
    rule_expression_try(set, compile, &work, &sticky->sqlstate, &sticky->message);
}

static void failed(const Sticky* sticky, int sqlstate, const char* message,
                   StickyContact* contact) {
    contact->sqlstate = sqlstate;
    char* words = psprintf("sticky_on of \"%s\" raised an error and is skipped for such leads: %s",
                           sticky->table, message);
    message_copy(contact->message, sizeof(contact->message), words);
}

void sticky_contact(RuleSet* set, TupleTableSlot* slot, StickyContact* contact) {
    contact->on = set->sticky != NULL;
    contact->present = false;
    contact->sqlstate = 0;
    Sticky* sticky = set->sticky;
    if (sticky == NULL)
        return;
    if (sticky->sqlstate != 0) {
        failed(sticky, sticky->sqlstate, sticky->message, contact);
        return;
    }
    Datum value;
    ErrorData* error;
    if (rule_expression_alone(set, &sticky->expression, slot, &value, &error)) {
        const text* words = DatumGetTextPP(value);
        contact->present = true;
        contact->hash = static_cast<int64>(
            hash_bytes_extended(reinterpret_cast<const unsigned char*>(VARDATA_ANY(words)),
                                static_cast<int>(VARSIZE_ANY_EXHDR(words)), sticky->seed));
    } else if (error != NULL) {
        failed(sticky, error->sqlerrcode, error->message, contact);
    }
}

TimestampTz sticky_since(const RuleSet* set, TimestampTz now) {
    // in UTC, whatever the session's time zone
    return DatumGetTimestamp(DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(now),
                                                 IntervalPGetDatum(&set->sticky->window)));
}
