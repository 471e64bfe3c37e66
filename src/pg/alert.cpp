// raise_alert(): one row for a fault, not one for each lead that meets it. An alert is repeated
// when the latest of its kind, rule and pool was committed over a minute ago; one that was rolled
// back counts as not raised, so that no fault passes in silence.
#include "alert.h"
#include "transaction.h"

extern "C" {
#include "common/hashfn.h"
}

static TenantKey current;

void alert_tenant(const TenantKey* key) {
    current = *key;
}

static uint64 alert_key(const Alert* alert) {
    uint64 key = hash_bytes_extended(reinterpret_cast<const unsigned char*>(alert->kind),
                                     (int)strlen(alert->kind), (uint64)alert->rule);
    key = hash_combine64(key, (uint64)alert->pool);
    key = hash_combine64(key, (uint64)alert->lead_table);
    return key == 0 ? 1 : key;
}

static bool raised_lately(TenantSlot* slot, uint64 key) {
    bool found = false;
    TimestampTz now = GetCurrentTimestamp();
    LWLockAcquire(slot_lock(slot), LW_SHARED);
    for (int i = 0; i < kRecentAlerts; i++)
        found = found || (slot->recent[i].key == key &&
                          abs(now - slot->recent[i].raised) < USECS_PER_MINUTE);
    LWLockRelease(slot_lock(slot));
    return found;
}

static Datum nullable(int64 value, char* null, bool wide) {
    *null = value == 0 ? 'n' : ' ';
    return wide ? Int64GetDatum(value) : Int32GetDatum((int32)value);
}

static void insert_alert(const Alert* alert) {
    Oid types[] = {INT8OID, TEXTOID, INT4OID, TEXTOID, INT8OID, INT4OID, INT8OID, TEXTOID};
    char nulls[] = "        ";
    Datum values[] = {Int64GetDatum(alert->tenant),
                      CStringGetTextDatum(alert->kind),
                      nullable(alert->lead_table, &nulls[2], false),
                      (Datum)0,
                      nullable(alert->rep, &nulls[4], true),
                      nullable(alert->pool, &nulls[5], false),
                      nullable(alert->rule, &nulls[6], true),
                      CStringGetTextDatum(alert->message)};
    if (alert->lead_id != NULL)
        values[3] = CStringGetTextDatum(alert->lead_id);
    else
        nulls[3] = 'n';
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    // to the rep's manager, else the pool's, else the lead table's
    int result = SPI_execute_with_args(
        "INSERT INTO leadroute.alert"
        " (tenant, kind, lead_table, lead_id, rep, pool, rule, manager, message)"
        " SELECT $1, $2, $3, $4, $5, $6, $7, COALESCE(e.manager, p.manager, t.manager),"
        "  CASE WHEN $8 LIKE '%rule \"%' THEN $8 WHEN $2 = 'rule_error' AND $7 IS NOT NULL"
        "   THEN pg_catalog.format("
        "    'rule \"%s\" (%s) raised an error and is skipped for such leads: %s', r.name, $7, $8)"
        "   WHEN $2 = 'unmatched' THEN pg_catalog.format('no rule of \"%s\" matches: leads %s', "
        "t.name,"
        "    COALESCE('go to the fallback pool \"' || p.name || '\"',"
        "     'wait in the queue unmatched'))"
        "   WHEN $2 = 'nobody_available' THEN pg_catalog.format("
        "    'nobody available for %s in %s: leads wait in its queue. %s',"
        "    COALESCE('rule \"' || r.name || '\" of \"' || t.name || '\"',"
        "     pg_catalog.format('leads of \"%s\"', t.name)),"
        "    COALESCE('pool \"' || p.name || '\"', 'the queue unmatched'), $8)"
        "   ELSE $8 END"
        " FROM (VALUES (1)) one (n)"
        " LEFT JOIN leadroute.rep e ON e.tenant = $1 AND e.id = $5"
        " LEFT JOIN leadroute.pool p ON p.tenant = $1 AND p.id = $6"
        " LEFT JOIN leadroute.lead_table t ON t.id = $3"
        " LEFT JOIN leadroute.rule r ON r.tenant = $1 AND r.id = $7",
        8, types, values, nulls, false, 0);
    if (result != SPI_OK_INSERT)
        elog(ERROR, "cannot raise an alert: %s", SPI_result_code_string(result));
    SPI_finish();
    owner_scope_end(&owner);
}

void raise_alert(const Alert* alert) {
    uint64 key = alert_key(alert);
    TenantSlot* slot = NULL;
    if (shared_ready() && current.tenant == alert->tenant && current.database == MyDatabaseId)
        slot = slot_find(&current);
    if (alert_raised_here(slot, key) || (slot != NULL && raised_lately(slot, key)))
        return;
    insert_alert(alert);
    alert_note(slot, key);
}
