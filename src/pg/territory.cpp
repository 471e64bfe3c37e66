// Looking up keys of territories; see territory.h.
#include "territory.h"
#include "placement.h"

extern "C" {
#include "access/skey.h"
#include "common/hashfn.h"
#include "utils/fmgroids.h"
}

// --- keys that the session knows ---

constexpr int kKnown = 4096;
constexpr int kWays = 4; // places that a key may stand in
constexpr int kKeyRoom = 64;

// The name holds tenant, match, territory and key, all of it, so that no key is taken for another.
struct KnownKey {
    int32 length; // of name; 0: empty
    TerritoryTarget target;
    char name[kKeyRoom];
};
static KnownKey* known; // kKnown of them, or NULL
static Oid entries;     // leadroute.territory_entry, InvalidOid: not looked up yet
static uint64 changes;  // moves on when an entry may have changed

static bool any_known;

void territory_forget(void) {
    changes++;
    if (any_known)
        memset(static_cast<void*>(known), 0, sizeof(KnownKey) * kKnown);
    any_known = false;
}

void territory_relation_changed(Oid relation) {
    if (relation != InvalidOid && relation != entries)
        return;
    entries = InvalidOid;
    territory_forget();
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

// The first of the places of the question, and what would stand there; NULL: it is too long.
static KnownKey* places_of(const TerritoryQuestion* q, KnownKey* mine) {
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
    uint32 set = hash % (kKnown / kWays);
    return known + static_cast<size_t>(set) * kWays;
}

// Puts the key in the place of an older one, each way in turn.
static void keep(KnownKey* places, const KnownKey* mine) {
    static uint32 turn;
    int way = 0;
    while (way < kWays && places[way].length != 0)
        way++;
    places[way < kWays ? way : static_cast<int>(turn++ % kWays)] = *mine;
    any_known = true;
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
    ScanKeyData keys[4];
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

// Puts the first entry that the keys admit, or from the end the last one, into the slot.
static bool search_run(Search* search, int keys, bool from_end) {
    IndexScanDesc scan = begin_index_scan(search->table, search->index, GetActiveSnapshot(), keys);
    index_rescan(scan, search->keys, keys, NULL, 0);
    bool found = index_getnext_slot(scan, from_end ? BackwardScanDirection : ForwardScanDirection,
                                    search->slot);
    index_endscan(scan);
    return found;
}

static void set_key(Search* search, int number, StrategyNumber strategy, Oid function,
                    const char* key, int32 length) {
    ScanKeyEntryInitialize(&search->keys[number], 0, kKeyColumn, strategy, InvalidOid,
                           C_COLLATION_OID, function,
                           PointerGetDatum(cstring_to_text_with_len(key, length)));
}

static bool search_exact(Search* search, const TerritoryQuestion* q) {
    set_key(search, 2, BTEqualStrategyNumber, F_TEXTEQ, q->key, q->length);
    return search_run(search, 3, false);
}

// Bytes that the two begin with alike.
static int32 common_length(const char* key, int32 length, const text* entry) {
    int32 most = Min(length, static_cast<int32>(VARSIZE_ANY_EXHDR(entry)));
    int32 common = 0;
    while (common < most && VARDATA_ANY(entry)[common] == key[common])
        common++;
    return common;
}

// The longest entry that the key begins with. Let E be the last entry up to the key: if it is none
// that the key begins with, then neither is one longer than what both begin with alike, and the
// search goes on there. A scan reads a page down to its lower bound, so it begins with narrow ones:
// where none is found, the one looked for is shorter than the bound.
static bool search_prefix(Search* search, const TerritoryQuestion* q) {
    int32 length = q->length;
    for (int attempt = 0; length > 0; attempt++) {
        CHECK_FOR_INTERRUPTS();
        int32 bound = attempt == 0 ? length - 1 : attempt == 1 ? length / 2 : 1;
        bound = Max(bound, 1);
        set_key(search, 2, BTLessEqualStrategyNumber, F_TEXT_LE, q->key, length);
        set_key(search, 3, BTGreaterEqualStrategyNumber, F_TEXT_GE, q->key, bound);
        if (!search_run(search, 4, true)) {
            length = bound - 1;
            continue;
        }
        bool isnull;
        const text* entry = DatumGetTextPP(slot_getattr(search->slot, kKeyColumn, &isnull));
        int32 common = common_length(q->key, length, entry);
        if (common == static_cast<int32>(VARSIZE_ANY_EXHDR(entry)))
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
    bool found = q->prefix ? search_prefix(&search, q) : search_exact(&search, q);
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
    KnownKey* places = places_of(q, &mine);
    for (int way = 0; places != NULL && way < kWays; way++)
        if (places[way].length == mine.length &&
            memcmp(places[way].name, mine.name, mine.length) == 0) {
            *target = places[way].target;
            return;
        }
    uint64 before = changes;
    look_up(q, pool_id, context, target);
    // what changed meanwhile may be newer than what was read
    if (places != NULL && before == changes) {
        mine.target = *target;
        keep(places, &mine);
    }
}
