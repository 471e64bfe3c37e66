// Columns, constants and single comparisons; see rule_draft.h.
#include "rule_draft.h"

extern "C" {
#include "access/stratnum.h"
#include "mb/pg_wchar.h"
#include "utils/fmgroids.h"
#include "utils/typcache.h"
#include "utils/uuid.h"
}

Draft* new_draft(int slot, core::AtomKind kind) {
    if (slot < 0)
        return NULL;
    Draft* draft = static_cast<Draft*>(palloc0(sizeof(Draft)));
    draft->atom.slot = static_cast<uint16>(slot);
    draft->atom.kind = kind;
    return draft;
}

// --- columns ---

SlotReader slot_reader(Oid type) {
    switch (type) {
    case INT2OID:
        return SlotReader::int2;
    case INT4OID:
        return SlotReader::int4;
    case INT8OID:
        return SlotReader::int8;
    case FLOAT4OID:
        return SlotReader::float4;
    case FLOAT8OID:
        return SlotReader::float8;
    case NUMERICOID:
        return SlotReader::numeric;
    case BOOLOID:
        return SlotReader::boolean;
    case DATEOID:
        return SlotReader::date;
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
        return SlotReader::timestamp;
    case TEXTOID:
    case VARCHAROID:
        return SlotReader::text;
    case UUIDOID:
        return SlotReader::uuid;
    default:
        return SlotReader::any;
    }
}

static const Node* bare_node(const Node* node) {
    while (IsA(node, RelabelType))
        node = reinterpret_cast<const Node*>(reinterpret_cast<const RelabelType*>(node)->arg);
    return node;
}

const Var* lead_column_of(const Node* node) {
    const Node* bare = bare_node(node);
    return IsA(bare, Var) && reinterpret_cast<const Var*>(bare)->varattno > 0
               ? reinterpret_cast<const Var*>(bare)
               : NULL;
}

const FuncExpr* case_call(const Node* node) {
    const Node* bare = bare_node(node);
    if (!IsA(bare, FuncExpr))
        return NULL;
    const FuncExpr* call = reinterpret_cast<const FuncExpr*>(bare);
    if (call->funcid != F_LOWER_TEXT && call->funcid != F_UPPER_TEXT)
        return NULL;
    const Var* column = lead_column_of(static_cast<const Node*>(linitial(call->args)));
    // characters that the server and the system's library may see differently raise errors
    bool safe = GetDatabaseEncoding() == PG_UTF8 && (call->inputcollid == DEFAULT_COLLATION_OID ||
                                                     call->inputcollid == C_COLLATION_OID);
    return safe && column != NULL && slot_reader(getBaseType(column->vartype)) == SlotReader::text
               ? call
               : NULL;
}

static bool same_slot(const RuleSlot* a, const RuleSlot* b) {
    return a->type == b->type && a->collation == b->collation && a->reader == b->reader &&
           strcmp(NameStr(a->column), NameStr(b->column)) == 0;
}

// The slot that reads the column so, -1: there is no room.
static int slot_for(const Analysis* a, const Var* column, SlotReader reader, Oid collation) {
    RuleSlot wanted = {};
    namestrcpy(&wanted.column,
               NameStr(TupleDescAttr(RelationGetDescr(a->lead), column->varattno - 1)->attname));
    wanted.type = getBaseType(column->vartype);
    wanted.collation = collation;
    wanted.reader = reader;
    for (int i = 0; i < a->slots->count; i++)
        if (same_slot(&a->slots->slot[i], &wanted))
            return i;
    if (a->slots->count == core::kMaxSlots)
        return -1;
    a->slots->slot[a->slots->count] = wanted;
    return a->slots->count++;
}

bool side_of(const Node* node, Side* side) {
    *side = {lead_column_of(node), SlotReader::any, InvalidOid};
    if (side->column != NULL) {
        side->reader = slot_reader(getBaseType(side->column->vartype));
        return side->reader != SlotReader::any;
    }
    const FuncExpr* call = case_call(node);
    if (call == NULL)
        return false;
    side->column = lead_column_of(static_cast<const Node*>(linitial(call->args)));
    side->reader = call->funcid == F_LOWER_TEXT ? SlotReader::lower : SlotReader::upper;
    side->collation = call->inputcollid;
    return true;
}

int slot_of(const Analysis* a, const Side* side) {
    return slot_for(a, side->column, side->reader, side->collation);
}

bool reads_text(SlotReader reader) {
    return reader == SlotReader::text || reader == SlotReader::lower || reader == SlotReader::upper;
}

bool reads_fraction(SlotReader reader) {
    return reader == SlotReader::float4 || reader == SlotReader::float8 ||
           reader == SlotReader::numeric;
}

// --- constants ---

Oid type_family(Oid type) {
    return lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
}

static Oid side_type(const Side* side) {
    return getBaseType(side->column->vartype);
}

// A constant of the type as a value that is compared with the side's. False: it cannot be.
bool constant_of(const Side* side, Oid type, Datum constant, core::Value* value) {
    SlotReader reader = slot_reader(type);
    bool times = reader == SlotReader::date || reader == SlotReader::timestamp;
    if (type_family(type) != type_family(side_type(side)) || (times && type != side_type(side)))
        return false;
    switch (reader) {
    case SlotReader::int2:
        *value = core::number_value(DatumGetInt16(constant));
        return true;
    case SlotReader::int4:
        *value = core::number_value(DatumGetInt32(constant));
        return true;
    case SlotReader::int8:
        *value = core::number_value(DatumGetInt64(constant));
        return true;
    case SlotReader::float4:
        *value = core::number_value(core::ordered(DatumGetFloat4(constant)));
        return true;
    case SlotReader::float8:
        *value = core::number_value(core::ordered(DatumGetFloat8(constant)));
        return true;
    case SlotReader::numeric:
        *value = numeric_number(constant);
        return value->lo == value->hi;
    case SlotReader::date:
        *value = core::number_value(DatumGetDateADT(constant));
        return true;
    case SlotReader::timestamp:
        *value = core::number_value(DatumGetTimestamp(constant));
        return true;
    case SlotReader::boolean:
        *value = core::number_value(DatumGetBool(constant) ? 1 : 0);
        return true;
    case SlotReader::uuid:
        *value = core::text_value(reinterpret_cast<const char*>(DatumGetUUIDP(constant)->data),
                                  UUID_LEN);
        return true;
    case SlotReader::text: {
        const text* packed = DatumGetTextPP(constant);
        *value =
            core::text_value(VARDATA_ANY(packed), static_cast<uint32>(VARSIZE_ANY_EXHDR(packed)));
        return true;
    }
    default:
        return false;
    }
}

static int compare_values(const void* a, const void* b) {
    const core::Value* x = static_cast<const core::Value*>(a);
    const core::Value* y = static_cast<const core::Value*>(b);
    if (x->kind == core::ValueKind::number)
        return x->lo < y->lo ? -1 : (x->lo > y->lo ? 1 : 0);
    int order = memcmp(x->text, y->text, Min(x->length, y->length));
    return order != 0 ? order : (x->length < y->length ? -1 : (x->length > y->length ? 1 : 0));
}

// The column is one of the list, which is sorted here and freed of doubles.
Draft* draft_among(int slot, core::Value* list, int count) {
    bool numbers = count == 0 || list[0].kind == core::ValueKind::number;
    Draft* draft = new_draft(slot, numbers ? core::AtomKind::numbers : core::AtomKind::texts);
    if (draft == NULL)
        return NULL;
    qsort(list, count, sizeof(core::Value), compare_values);
    int kept = 0;
    for (int i = 0; i < count; i++)
        if (kept == 0 || compare_values(&list[kept - 1], &list[i]) != 0)
            list[kept++] = list[i];
    draft->atom.count = static_cast<uint32>(kept);
    draft->list = list;
    return draft;
}

Draft* draft_range(int slot, int64 lo, int64 hi) {
    Draft* draft = new_draft(slot, core::AtomKind::range);
    if (draft != NULL) {
        draft->atom.lo = lo;
        draft->atom.hi = hi;
    }
    return draft;
}

// --- comparisons ---

Draft* draft_compare(const Analysis* a, const Side* side, int strategy, core::Value value) {
    int64 n = value.lo;
    if (strategy == BTEqualStrategyNumber && !reads_fraction(side->reader)) {
        core::Value* list = static_cast<core::Value*>(palloc(sizeof(core::Value)));
        *list = value;
        return draft_among(slot_of(a, side), list, 1);
    }
    if (value.kind != core::ValueKind::number)
        return NULL; // an order of texts is its collation's
    switch (strategy) {
    case BTEqualStrategyNumber:
        return draft_range(slot_of(a, side), n, n);
    case BTLessStrategyNumber: // below the least there is nothing
        return n == PG_INT64_MIN ? draft_range(slot_of(a, side), 1, 0)
                                 : draft_range(slot_of(a, side), PG_INT64_MIN, n - 1);
    case BTLessEqualStrategyNumber:
        return draft_range(slot_of(a, side), PG_INT64_MIN, n);
    case BTGreaterEqualStrategyNumber:
        return draft_range(slot_of(a, side), n, PG_INT64_MAX);
    case BTGreaterStrategyNumber:
        return n == PG_INT64_MAX ? draft_range(slot_of(a, side), 1, 0)
                                 : draft_range(slot_of(a, side), n + 1, PG_INT64_MAX);
    default:
        return NULL;
    }
}

Draft* draft_prefix(int slot, const char* text, uint32 length) {
    Draft* draft = length > kMaxPrefix ? NULL : new_draft(slot, core::AtomKind::prefix);
    if (draft == NULL)
        return NULL;
    draft->atom.count = length;
    draft->list = static_cast<core::Value*>(palloc(sizeof(core::Value)));
    *draft->list = core::text_value(text, length);
    return draft;
}
