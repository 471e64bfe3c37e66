// A rep as a value of a lead's owner column, and back; see lead_table.h.
#include "lead_table.h"

extern "C" {
#include "utils/uuid.h"
}

bool owner_kind_of(Oid type, OwnerKind* kind) {
    switch (getBaseType(type)) {
    case INT2OID:
        *kind = OwnerKind::int2;
        return true;
    case INT4OID:
        *kind = OwnerKind::int4;
        return true;
    case INT8OID:
        *kind = OwnerKind::int8;
        return true;
    case TEXTOID:
    case VARCHAROID:
        *kind = OwnerKind::text;
        return true;
    case UUIDOID:
        *kind = OwnerKind::uuid;
        return true;
    default:
        return false;
    }
}

bool owner_of(OwnerKind kind, int64 rep, const char* ref, Datum* owner) {
    switch (kind) {
    case OwnerKind::int2:
        *owner = Int16GetDatum((int16)rep);
        return rep <= PG_INT16_MAX;
    case OwnerKind::int4:
        *owner = Int32GetDatum((int32)rep);
        return rep <= PG_INT32_MAX;
    case OwnerKind::int8:
        *owner = Int64GetDatum(rep);
        return true;
    default:
        break;
    }
    if (ref != NULL)
        *owner = kind == OwnerKind::uuid ? DirectFunctionCall1(uuid_in, CStringGetDatum(ref))
                                         : CStringGetTextDatum(ref);
    return ref != NULL;
}

static bool rep_by_ref(int64 tenant, Datum owner, OwnerKind kind, int64* rep) {
    OwnerScope scope;
    owner_scope_begin(&scope);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    bool by_uuid = kind == OwnerKind::uuid;
    Oid types[] = {INT8OID, TEXTOID};
    Datum text = by_uuid
                     ? CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(uuid_out, owner)))
                     : owner;
    Datum values[] = {Int64GetDatum(tenant), text};
    int result = SPI_execute_with_args(
        by_uuid ? "SELECT id FROM leadroute.rep WHERE tenant = $1"
                  " AND lower(replace(ref, '-', '')) = replace($2, '-', '')"
                : "SELECT id FROM leadroute.rep WHERE tenant = $1 AND ref = $2",
        2, types, values, NULL, true, 1);
    bool found = result == SPI_OK_SELECT && SPI_processed == 1;
    if (found) {
        bool isnull;
        *rep =
            DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    }
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&scope);
    return found;
}

bool rep_from_owner(const LeadTable* table, int64 tenant, Datum owner, int64* rep) {
    switch (table->owner_kind) {
    case OwnerKind::int2:
        *rep = DatumGetInt16(owner);
        return true;
    case OwnerKind::int4:
        *rep = DatumGetInt32(owner);
        return true;
    case OwnerKind::int8:
        *rep = DatumGetInt64(owner);
        return true;
    default:
        return rep_by_ref(tenant, owner, table->owner_kind, rep);
    }
}
