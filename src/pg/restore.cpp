// A restore of data alone finds the triggers in place. Its leads must not be routed again: what is
// restored is their record too, before them or after them.
//
// A lead that has a record is left alone, as is one whose table's attachment has not arrived yet.
// Of any other the record says what the row says, its owner or that it waits, until the record that
// belongs to it arrives and takes the place of that (replace_provisional() in sql/restore.sql). If
// none arrives, no lead is without an outcome.
#include "restore.h"

extern "C" {
#include "storage/lmgr.h"
#include "utils/rls.h"
}

// The script of a dump begins with these two settings, and nobody else has use for both.
bool restore_running(void) {
    return !check_function_bodies && !row_security;
}

static bool any_row(const char* sql, int count, Oid* types, Datum* values) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_with_args(sql, count, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read the record");
    bool found = SPI_processed > 0;
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return found;
}

bool restore_is_attached(const Trigger* trigger) {
    if (trigger->tgnargs != 1)
        return true; // which is an error, and told as one
    Oid types[] = {TEXTOID};
    Datum values[] = {CStringGetTextDatum(trigger->tgargs[0])};
    return any_row("SELECT FROM leadroute.lead_table WHERE id = $1::integer", 1, types, values);
}

bool restore_has_record(const TenantKey* key, int32 lead_table, const char* lead_id) {
    // With pg_restore -j leads and record may come at the same time. Whoever comes first is to be
    // seen by the other: leads keep the record from being written, and wait for who writes it.
    LockRelationOid(key->assignment, ShareRowExclusiveLock);
    Oid types[] = {INT8OID, INT4OID, TEXTOID};
    Datum values[] = {Int64GetDatum(key->tenant), Int32GetDatum(lead_table),
                      CStringGetTextDatum(lead_id)};
    return any_row("SELECT FROM leadroute._episodes($2, $3, $1) UNION ALL"
                   " SELECT FROM leadroute.unmanaged_lead"
                   " WHERE tenant = $1 AND lead_table = $2 AND lead_id = $3",
                   lengthof(types), types, values);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_restoring);
PG_FUNCTION_INFO_V1(leadroute_rest_triggers);

// _restoring() -> bool
Datum leadroute_restoring(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    PG_RETURN_BOOL(restore_running());
}

// BEFORE STATEMENT: session_replication_role = replica; AFTER STATEMENT: what it was before. Local
// to the transaction, so that an error between the two leaves nothing behind.
Datum leadroute_rest_triggers(PG_FUNCTION_ARGS) {
    static int previous = SESSION_REPLICATION_ROLE_ORIGIN;
    static const char* const names[] = {"origin", "replica", "local"};
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("this function can only be called as a trigger")));
    bool before = TRIGGER_FIRED_BEFORE(reinterpret_cast<TriggerData*>(fcinfo->context)->tg_event);
    if (before)
        previous = SessionReplicationRole;
    (void)set_config_option("session_replication_role", before ? "replica" : names[previous],
                            superuser() ? PGC_SUSET : PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
                            true, 0, false);
    PG_RETURN_POINTER(NULL);
}
}
