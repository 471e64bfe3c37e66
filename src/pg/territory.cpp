// Looking up keys of territories; see territory.h.
#include "territory.h"
#include "placement.h"

extern "C" {
#include "access/skey.h"
#include "common/hashfn.h"
#include "utils/fmgroids.h"
}

// --- keys that the session knows ---

constexpr int kKnown = 2048;
constexpr int kKeyRoom = 104;

// The name holds tenant, match, territory and key, all of it, so that no key is taken for another.
struct KnownKey {
    int32 length; // of name; 0: empty
    TerritoryTarget target;
    char name[kKeyRoom];
};
static KnownKey* known; // kKnown of them, or NULL
static Oid entries;     // leadroute.territory_entry, InvalidOid: not looked up yet
static uint64 changes;  // moves on when an entry may have changed

static void forget_all(void) {
    changes++;
    if (known != NULL)
        memset(static_cast<void*>(known), 0, sizeof(KnownKey) * kKnown);
}

void territory_relation_changed(Oid relation) {
    if (relation != InvalidOid && relation != entries)
        return;
    entries = InvalidOid;
    forget_all();
}

static void prepare(void) {
    if (known == NULL)
        known = static_cast<KnownKey*>(
            MemoryContextAllocZero(TopMemoryContext, sizeof(KnownKey) * kKnown));
    // What others have committed by now counts, also in a transaction that waits for no lock.
    AcceptInvalidationMessages();
    if (!OidIsValid(entries))
        entries = get_relname_relid("territory_entry", leadroute_schema());
    if (!OidIsValid(entries))
        ereport(ERROR, (errcode(ERRCODE_LR_VERSIONS_DIFFER),
                        errmsg("relation leadroute.territory_entry does not exist"),
                        errhint("ALTER EXTENSION leadroute UPDATE;")));
}

// The place of the question, and what would stand there; NULL: it is too long to be kept.
static KnownKey* place_of(const TerritoryQuestion* q, KnownKey* mine) {
    int32 territory = static_cast<int32>(strlen(q->territory)) + 1;
    int32 head = static_cast<int32>(sizeof(int64)) + 1;
    int64 length = static_cast<int64>(head) + territory + q->length;
    if (length > kKeyRoom)
        return NULL;
    memcpy(mine->name, &q->tenant, sizeof(int64));
    mine->name[sizeof(int64)] = q->prefix ? 'p' : 'e';
    memcpy(mine->name + head, q->territory, territory);
    memcpy(mine->name + head + territory, q->key, q->length);
    mine->length = static_cast<int32>(length);
    uint32 hash = hash_bytes(reinterpret_cast<const unsigned char*>(mine->name), mine->length);
    return &known[hash % kKnown];
}

// --- the index ---

// Columns, as the install script makes them.
constexpr int kKeyColumn = 3;
constexpr int kPoolColumn = 4;
constexpr int kRepColumn = 5;

struct Search {
    Relation table;
    Relation index;
    TupleTableSlot* slot;
    ScanKeyData keys[3];
};

static void search_begin(Search* search, const TerritoryQuestion* q) {
    search->table = table_open(entries, AccessShareLock);
    (void)RelationGetIndexList(search->table);
    search->index = index_open(search->table->rd_pkindex, AccessShareLock);
    search->slot = table_slot_create(search->table, NULL);
    ScanKeyInit(&search->keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(q->tenant));
    ScanKeyEntryInitialize(&search->keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid,
                           C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(q->territory));
}

static void search_end(Search* search) {
    ExecDropSingleTupleTableSlot(search->slot);
    // the locks stay until the transaction ends
    index_close(search->index, NoLock);
    table_close(search->table, NoLock);
}

// Puts the entry with this key, or with `below` the last one up to it, into the slot.
static bool search_key(Search* search, const char* key, int32 length, bool below) {
    text* wanted = cstring_to_text_with_len(key, length);
    ScanKeyEntryInitialize(&search->keys[2], 0, 3,
                           below ? BTLessEqualStrategyNumber : BTEqualStrategyNumber, InvalidOid,
                           C_COLLATION_OID, below ? F_TEXT_LE : F_TEXTEQ, PointerGetDatum(wanted));
    IndexScanDesc scan = begin_index_scan(search->table, search->index, GetActiveSnapshot(), 3);
    index_rescan(scan, search->keys, 3, NULL, 0);
    bool found = index_getnext_slot(scan, below ? BackwardScanDirection : ForwardScanDirection,
                                    search->slot);
    index_endscan(scan);
    pfree(wanted);
    return found;
}

// The longest entry that the key begins with: the last one up to the key begins as the key does for
// some length, and so does the one looked for; unless it is that one, the search goes on there.
static bool search_prefix(Search* search, const TerritoryQuestion* q) {
    int32 length = q->length;
    while (length > 0 && search_key(search, q->key, length, true)) {
        CHECK_FOR_INTERRUPTS();
        bool isnull;
        text* entry = DatumGetTextPP(slot_getattr(search->slot, kKeyColumn, &isnull));
        int32 entry_length = static_cast<int32>(VARSIZE_ANY_EXHDR(entry));
        const char* found = VARDATA_ANY(entry);
        int32 common = 0;
        while (common < Min(length, entry_length) && found[common] == q->key[common])
            common++;
        if (common == entry_length)
            return true;
        length = common;
    }
    return false;
}

static void read_target(Search* search, PoolNamer pool_id, void* context, TerritoryTarget* target) {
    bool isnull;
    Datum rep = slot_getattr(search->slot, kRepColumn, &isnull);
    if (!isnull) {
        target->found = true;
        target->rep = DatumGetInt64(rep);
        return;
    }
    Datum pool = slot_getattr(search->slot, kPoolColumn, &isnull);
    if (isnull)
        return;
    target->pool = pool_id(context, TextDatumGetCString(pool));
    target->found = target->pool != 0;
}

static void look_up(const TerritoryQuestion* q, PoolNamer pool_id, void* context,
                    TerritoryTarget* target) {
    PushActiveSnapshot(GetLatestSnapshot());
    Search search;
    search_begin(&search, q);
    bool found =
        q->prefix ? search_prefix(&search, q) : search_key(&search, q->key, q->length, false);
    if (found)
        read_target(&search, pool_id, context, target);
    search_end(&search);
    PopActiveSnapshot();
}

void territory_find(const TerritoryQuestion* q, PoolNamer pool_id, void* context,
                    TerritoryTarget* target) {
    memset(static_cast<void*>(target), 0, sizeof(*target));
    prepare();
    KnownKey mine;
    KnownKey* place = place_of(q, &mine);
    if (place != NULL && place->length == mine.length &&
        memcmp(place->name, mine.name, mine.length) == 0) {
        *target = place->target;
        return;
    }
    uint64 before = changes;
    look_up(q, pool_id, context, target);
    // what changed meanwhile may be newer than what was read
    if (place != NULL && before == changes) {
        mine.target = *target;
        *place = mine;
    }
}
