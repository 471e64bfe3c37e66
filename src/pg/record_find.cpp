// Finding rows of the record by the indexes that record.cpp keeps open.
#include "record.h"

extern "C" {
#include "access/skey.h"
#include "utils/fmgroids.h"
}

struct KnownContact {
    ContactKey key;
    int64 rep;
};

void contacts_note(RecordContacts* contacts, MemoryContext context, int most,
                   const RecordRow* row) {
    if (!row->has_contact || !row->has_rep)
        return;
    if (contacts->known == NULL)
        contacts->known =
            static_cast<KnownContact*>(MemoryContextAlloc(context, sizeof(KnownContact) * most));
    contacts->known[contacts->count++] = {{row->tenant, row->contact, row->lead_table}, row->rep};
}

bool contacts_know(const RecordContacts* contacts, const ContactKey* key, int64* rep) {
    for (int i = contacts->count; i-- > 0;) {
        const KnownContact* known = &contacts->known[i];
        if (known->key.contact == key->contact && known->key.tenant == key->tenant &&
            known->key.lead_table == key->lead_table) {
            *rep = known->rep;
            return true;
        }
    }
    return false;
}

static void tenant_keys(ScanKeyData* keys, int64 tenant, int32 lead_table) {
    ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(tenant));
    ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(lead_table));
}

bool record_is_open(Oid assignment, int64 tenant, int32 lead_table, const char* lead_id) {
    RecordIndex by_lead;
    if (!record_index(assignment, RecordKey::open_lead, &by_lead))
        return false;
    ScanKeyData keys[3];
    tenant_keys(keys, tenant, lead_table);
    ScanKeyEntryInitialize(&keys[2], 0, 3, BTEqualStrategyNumber, InvalidOid, DEFAULT_COLLATION_OID,
                           F_TEXTEQ, CStringGetTextDatum(lead_id));
    PushActiveSnapshot(GetLatestSnapshot());
    IndexScanDesc scan = begin_index_scan(by_lead.record, by_lead.index, GetActiveSnapshot(), 3);
    index_rescan(scan, keys, 3, NULL, 0);
    TupleTableSlot* slot = table_slot_create(by_lead.record, NULL);
    bool found = index_getnext_slot(scan, ForwardScanDirection, slot);
    ExecDropSingleTupleTableSlot(slot);
    index_endscan(scan);
    PopActiveSnapshot();
    return found;
}

bool record_known_rep(Oid assignment, const ContactKey* key, TimestampTz since, int64* rep) {
    RecordIndex by_contact;
    if (!record_index(assignment, RecordKey::contact, &by_contact))
        return false;
    ScanKeyData keys[4];
    tenant_keys(keys, key->tenant, static_cast<int32>(key->lead_table));
    ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key->contact));
    ScanKeyInit(&keys[3], 4, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
                TimestampTzGetDatum(since));
    // rows that the statement at hand has written are the latest there are
    PushCopiedSnapshot(GetLatestSnapshot());
    GetActiveSnapshot()->curcid = GetCurrentCommandId(false) + 1;
    // what is read here makes no insert fail: SERIALIZABLE minds MVCC snapshots alone
    Snapshot snapshot = IsolationIsSerializable() ? SnapshotSelf : GetActiveSnapshot();
    IndexScanDesc scan = begin_index_scan(by_contact.record, by_contact.index, snapshot, 4);
    index_rescan(scan, keys, 4, NULL, 0);
    TupleTableSlot* slot = table_slot_create(by_contact.record, NULL);
    AttrNumber column = get_attnum(assignment, "rep");
    bool found = false;
    // the index has rows with a rep alone
    while (!found && index_getnext_slot(scan, BackwardScanDirection, slot)) {
        bool isnull;
        Datum value = slot_getattr(slot, column, &isnull);
        found = !isnull;
        if (found)
            *rep = DatumGetInt64(value);
    }
    ExecDropSingleTupleTableSlot(slot);
    index_endscan(scan);
    PopActiveSnapshot();
    return found;
}
