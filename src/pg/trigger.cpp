// A lead's way: the triggers of an attached table.
//
//   route_lead(), BEFORE INSERT ROW: match, pick, set the owner, and record (the direct way);
//   record_lead(), AFTER INSERT ROW: record what could not be recorded before (the safe way);
//   reroute_lead(), BEFORE UPDATE ROW of columns that matter: match and pick anew, set the owner;
//   record_lead(), AFTER UPDATE ROW of these: record that.
#include "again.h"
#include "alert.h"
#include "decide.h"
#include "frame.h"
#include "lead_table.h"
#include "placement.h"
#include "restore.h"
#include "transaction.h"

extern "C" {
#include "access/parallel.h"
}

static TriggerData* trigger_call(FunctionCallInfo fcinfo, bool before, bool insert, bool update) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("this function can only be called as a trigger"),
                        errhint("Call leadroute.attach().")));
    TriggerData* data = reinterpret_cast<TriggerData*>(fcinfo->context);
    bool timing =
        before ? TRIGGER_FIRED_BEFORE(data->tg_event) : TRIGGER_FIRED_AFTER(data->tg_event);
    bool event = (insert && TRIGGER_FIRED_BY_INSERT(data->tg_event)) ||
                 (update && TRIGGER_FIRED_BY_UPDATE(data->tg_event));
    if (!timing || !TRIGGER_FIRED_FOR_ROW(data->tg_event) || !event)
        ereport(ERROR,
                (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                 errmsg("trigger \"%s\" does not fire %s %s for each row", data->tg_trigger->tgname,
                        before ? "BEFORE" : "AFTER", insert ? "INSERT" : "UPDATE"),
                 errhint("Triggers of leadroute are made by leadroute.attach().")));
    if (IsInParallelMode())
        ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_STATE),
                        errmsg("leads cannot be routed during a parallel operation")));
    return data;
}

// The row with its owner, and the rule's label in the columns of the same names.
static HeapTuple set_columns(const LeadTable* table, Relation relation, HeapTuple tuple,
                             const Decision* d, bool clears) {
    int numbers[MaxTupleAttributeNumber];
    Datum values[MaxTupleAttributeNumber];
    bool nulls[MaxTupleAttributeNumber];
    ColumnValues columns = {0, numbers, values, nulls};
    decision_columns(table, d, clears, &columns);
    if (columns.count == 0)
        return tuple;
    return heap_modify_tuple_by_cols(tuple, RelationGetDescr(relation), columns.count, numbers,
                                     values, nulls);
}

// Keeps the decision until the row has arrived.
static void defer(Frame* frame, const LeadTable* table, const Decision* d, bool again) {
    MemoryContext caller = MemoryContextSwitchTo(frame_context(frame));
    Deferred* deferred = static_cast<Deferred*>(palloc0(sizeof(Deferred)));
    deferred->slot = d->slot;
    deferred->again = again;
    deferred->owner_set = d->sets_owner;
    if (d->sets_owner) {
        bool by_value =
            table->owner_kind != OwnerKind::text && table->owner_kind != OwnerKind::uuid;
        int length = table->owner_kind == OwnerKind::uuid ? 16 : (by_value ? 8 : -1);
        deferred->owner = datumCopy(d->owner, by_value, length);
    }
    record_copy(&deferred->row, &d->row);
    frame_defer(frame, deferred);
    MemoryContextSwitchTo(caller);
    frame->last_deferred = true;
}

static void record(Frame* frame, const LeadTable* table, const Decision* d) {
    frame->rows++;
    if (frame->may_drop_rows || table->later_before_trigger)
        defer(frame, table, d, false);
    else if (frame->loose || (frame->query != NULL && frame->rows == 1))
        // most statements have one row
        record_write(frame->loose ? NULL : &frame->buffer, &d->row);
    else
        record_buffer(&frame->buffer, &d->row);
}

static bool same_owner(const LeadTable* table, const Deferred* deferred, Datum owner, bool isnull) {
    if (!deferred->owner_set || isnull)
        return !deferred->owner_set && (isnull || strcmp(deferred->row.method, "manual") == 0);
    switch (table->owner_kind) {
    case OwnerKind::text:
        return datumIsEqual(deferred->owner, owner, false, -1);
    case OwnerKind::uuid:
        return datumIsEqual(deferred->owner, owner, false, 16);
    default:
        return deferred->owner == owner;
    }
}

// The decision that was made for this row. Rows arrive in the order of their decisions, so the
// search goes on where the last one ended.
static Deferred* find_deferred(Frame* frame, const Lead* lead, bool again) {
    if (again && frame->again == 0)
        return NULL;
    Deferred* starts[] = {frame->cursor, frame->first};
    for (Deferred* start : starts)
        for (Deferred* d = start; d != NULL; d = d->next)
            if (!d->confirmed && d->again == again && d->row.tenant == lead->key.tenant &&
                strcmp(d->row.lead_id, lead->id) == 0) {
                frame->cursor = d->next;
                return d;
            }
    return NULL;
}

// What tells the contact of a lead whose owner is given; NULL: nothing does.
static TenantRules* rules_for_contact(LeadTable* table, const Lead* lead, const Frame* frame) {
    if ((!table->sticky && table->sla == NULL) || !shared_ready())
        return NULL;
    return lead_table_rules(table, lead->relation, &lead->key, frame);
}

// The row is stored: writes the record of its decision, or of what became of it since.
static void arrived(Frame* frame, LeadTable* table, const Lead* lead) {
    bool isnull;
    Datum owner = slot_getattr(lead->slot, table->owner_column, &isnull);
    Deferred* deferred = find_deferred(frame, lead, false);
    if (deferred != NULL && same_owner(table, deferred, owner, isnull)) {
        deferred->confirmed = true;
        record_buffer(&frame->buffer, &deferred->row);
        return;
    }
    // A trigger after ours named another owner, or took it away, or gave the lead another key. The
    // decision stays unconfirmed, so its turn goes back; what the row says now is a person's
    // choice.
    Decision decision;
    if (isnull)
        decide_unowned(table, lead, &decision);
    else
        decide_given(table, rules_for_contact(table, lead, frame), lead, owner, &decision);
    record_buffer(&frame->buffer, &decision.row);
    decide_alerts(table, lead, &decision);
}

// The changed row is stored: writes the record of what was decided for it anew. An owner that a
// trigger after ours has given it is not ours to record, and the turn goes back.
static void arrived_again(LeadTable* table, const Lead* lead, Deferred* deferred) {
    bool isnull;
    Datum owner = slot_getattr(lead->slot, table->owner_column, &isnull);
    if (deferred == NULL || !same_owner(table, deferred, owner, isnull))
        return;
    deferred->confirmed = true;
    record_next(&deferred->row, "rerouted");
}

// Did a person, or the app, change the owner in this very UPDATE?
static bool owner_changed(const LeadTable* table, const TriggerData* data) {
    bool was_null, is_null;
    Datum was = slot_getattr(data->tg_trigslot, table->owner_column, &was_null);
    Datum now = slot_getattr(data->tg_newslot, table->owner_column, &is_null);
    Form_pg_attribute column =
        TupleDescAttr(RelationGetDescr(data->tg_relation), table->owner_column - 1);
    return was_null != is_null ||
           (!was_null && !datum_image_eq(was, now, column->attbyval, column->attlen));
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_route_lead);
PG_FUNCTION_INFO_V1(leadroute_reroute_lead);
PG_FUNCTION_INFO_V1(leadroute_record_lead);
PG_FUNCTION_INFO_V1(leadroute_after_pending);
PG_FUNCTION_INFO_V1(leadroute_on_conflict);

Datum leadroute_route_lead(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_call(fcinfo, true, true, false);
    if (leadroute_unavailable == UNAVAILABLE_ERROR || shared_ready())
        shared_require();
    Frame* frame = frame_current();
    frame->last_deferred = false;
    frame_inspect(frame);
    const bool restored = restore_running();
    if (restored && !restore_is_attached(data->tg_trigger))
        return PointerGetDatum(data->tg_trigtuple);
    LeadTable* table = lead_table_for(data);
    Lead lead;
    if (!lead_read(table, data->tg_relation, data->tg_trigslot, &lead))
        return PointerGetDatum(data->tg_trigtuple);
    // a row that an UPDATE moves to another partition has its owner already
    if (frame->may_move_rows &&
        record_is_open(lead.key.assignment, lead.key.tenant, table->id, lead.id)) {
        frame->last_deferred = find_deferred(frame, &lead, true) != NULL;
        return PointerGetDatum(data->tg_trigtuple);
    }
    if (frame->may_move_rows && standing_moved(table, &lead))
        return PointerGetDatum(data->tg_trigtuple);

    if (restored && restore_has_record(&lead.key, table->id, lead.id))
        return PointerGetDatum(data->tg_trigtuple);

    Decision decision;
    bool isnull;
    Datum owner = slot_getattr(lead.slot, table->owner_column, &isnull);
    if (!isnull)
        decide_given(table, restored ? NULL : rules_for_contact(table, &lead, frame), &lead, owner,
                     &decision);
    else if (restored || !shared_ready())
        decide_unowned(table, &lead, &decision);
    else
        decide(table, lead_table_rules(table, lead.relation, &lead.key, frame), &lead, &decision);
    record(frame, table, &decision);
    frame_after_trigger(frame, data, table->after_trigger,
                        frame->last_deferred ? table->after_enabled : TRIGGER_DISABLED);
    HeapTuple tuple = set_columns(table, lead.relation, data->tg_trigtuple, &decision, false);
    if (!restored)
        decide_alerts(table, &lead, &decision);
    if (decision.slot != NULL && checkpoint_due(decision.slot))
        checkpoint_write_if_due(decision.slot, &lead.key);
    return PointerGetDatum(tuple);
}

// A column of reroute_on has changed: who would be the owner now? What a person gave stays.
Datum leadroute_reroute_lead(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_call(fcinfo, true, false, true);
    Frame* frame = frame_current();
    frame->last_deferred = false;
    frame_inspect(frame);
    // without a statement nobody would see whether the row arrives (logical replication)
    if (!shared_ready() || frame->loose)
        return PointerGetDatum(data->tg_newtuple);
    LeadTable* table = lead_table_of(data->tg_relation);
    Lead lead;
    Standing standing;
    if (owner_changed(table, data) ||
        !lead_read(table, data->tg_relation, data->tg_newslot, &lead) ||
        !standing_read(table, &lead, &standing) || standing.given)
        return PointerGetDatum(data->tg_newtuple);
    Decision decision;
    TenantRules* rules = lead_table_rules(table, lead.relation, &lead.key, frame);
    if (!decide_again(table, rules, &lead, &standing, "reroute", &decision))
        return PointerGetDatum(data->tg_newtuple);
    defer(frame, table, &decision, true);
    HeapTuple tuple = set_columns(table, lead.relation, data->tg_newtuple, &decision, true);
    decide_alerts(table, &lead, &decision);
    if (decision.slot != NULL && checkpoint_due(decision.slot))
        checkpoint_write_if_due(decision.slot, &lead.key);
    return PointerGetDatum(tuple);
}

// True while the latest row of the statement took the safe way: WHEN of the AFTER trigger.
Datum leadroute_after_pending(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    PG_RETURN_BOOL(frame_current()->last_deferred);
}

// True in a row trigger of a statement that may drop rows after their BEFORE triggers.
Datum leadroute_on_conflict(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    Frame* frame = frame_current();
    frame_inspect(frame);
    PG_RETURN_BOOL(frame->may_drop_rows);
}

Datum leadroute_record_lead(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_call(fcinfo, false, true, true);
    bool update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
    Frame* frame = frame_current();
    LeadTable* table = lead_table_of(data->tg_relation);
    Lead lead;
    TupleTableSlot* slot = update ? data->tg_newslot : data->tg_trigslot;
    if (!lead_read(table, data->tg_relation, slot, &lead))
        PG_RETURN_POINTER(NULL);
    // a row that an UPDATE moved to another partition arrives there as an insert
    Deferred* again = find_deferred(frame, &lead, true);
    if (update || again != NULL)
        arrived_again(table, &lead, again);
    else
        arrived(frame, table, &lead);
    PG_RETURN_POINTER(NULL);
}
}
