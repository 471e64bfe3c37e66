// Sharing books of rules; see rule_shelf.h.
#include "rule_shelf.h"

#include "attempt.h"
#include "growing.h"

constexpr int kShelfBooks = 128;

struct ShelfEdit {
    uint64 version;
    int64 rule;
};

struct ShelfEntry {
    bool used;
    bool outdated; // the book may not be used any more
    bool has_book;
    ShelfKey key;
    uint64 layout;
    uint64 version;    // of the latest change
    uint64 base;       // of the book
    uint64 forgotten;  // the latest change that is not in the list any more
    uint32 rule_count; // in the book
    dsm_handle handle;
    TimestampTz last_used;
    uint32 edits; // ever; the latest of them are kept
    ShelfEdit edit[kShelfEdits];
};

struct Shelf {
    uint64 versions; // source of ShelfEntry::version
    ShelfEntry entry[kShelfBooks];
};

static Shelf* shelf;
static LWLock* lock;

Size rule_shelf_size(void) {
    return MAXALIGN(sizeof(Shelf));
}

void rule_shelf_request(void) {
    RequestNamedLWLockTranche("leadroute_rules", 1);
}

void rule_shelf_startup(void) {
    bool found;
    lock = &GetNamedLWLockTranche("leadroute_rules")->lock;
    shelf = static_cast<Shelf*>(ShmemInitStruct("leadroute rules", rule_shelf_size(), &found));
    if (!found)
        memset(static_cast<void*>(shelf), 0, sizeof(*shelf));
}

// --- books that this session has mapped ---

struct Mapping {
    dsm_handle handle;
    dsm_segment* segment;
    int loans;
};
static Growing<Mapping> mappings;

static Mapping* mapping_of(dsm_handle handle) {
    for (int i = 0; i < mappings.count; i++)
        if (mappings.items[i].handle == handle)
            return &mappings.items[i];
    return NULL;
}

// Not when a book is given back: it may be lent again at once.
static void drop_idle(void) {
    int kept = 0;
    for (int i = 0; i < mappings.count; i++) {
        if (mappings.items[i].loans == 0)
            dsm_detach(mappings.items[i].segment);
        else
            mappings.items[kept++] = mappings.items[i];
    }
    mappings.count = kept;
}

static const Book* add_mapping(dsm_segment* segment) {
    dsm_pin_mapping(segment);
    mappings.items[mappings.count++] = {dsm_segment_handle(segment), segment, 1};
    return static_cast<const Book*>(dsm_segment_address(segment));
}

// NULL: it is gone.
static const Book* map_book(dsm_handle handle) {
    Mapping* mine = mapping_of(handle);
    if (mine != NULL) {
        mine->loans++;
        return static_cast<const Book*>(dsm_segment_address(mine->segment));
    }
    mappings.grow();
    dsm_segment* segment = dsm_attach(handle);
    return segment == NULL ? NULL : add_mapping(segment);
}

void shelf_give_back(dsm_handle handle) {
    Mapping* mine = mapping_of(handle);
    if (mine != NULL)
        mine->loans--;
}

// --- the shelf ---

static bool same_book(const ShelfKey* a, const ShelfKey* b) {
    return a->lead_table == b->lead_table && same_key(&a->tenant, &b->tenant);
}

// The lock is held. What was in its place is to be unpinned.
static ShelfEntry* entry_for(const ShelfKey* key, dsm_handle* unpin) {
    ShelfEntry* best = NULL;
    for (ShelfEntry& entry : shelf->entry) {
        if (entry.used && same_book(&entry.key, key))
            return &entry;
        if (best == NULL || (best->used && (!entry.used || entry.last_used < best->last_used)))
            best = &entry;
    }
    *unpin = best->used && best->has_book ? best->handle : 0;
    memset(static_cast<void*>(best), 0, sizeof(*best));
    best->used = true;
    best->key = *key;
    best->version = best->forgotten = shelf->versions;
    return best;
}

static void list_changes(const ShelfEntry* entry, ShelfLoan* loan) {
    uint32 kept = Min(entry->edits, static_cast<uint32>(kShelfEdits));
    for (uint32 i = entry->edits - kept; i < entry->edits; i++)
        if (entry->edit[i % kShelfEdits].version > entry->base)
            loan->changed[loan->count++] = entry->edit[i % kShelfEdits].rule;
}

static void unpin(dsm_handle handle) {
    if (handle != 0)
        dsm_unpin_segment(handle);
}

// The lock is held; what is returned is to be unpinned once it is mapped.
static dsm_handle look(ShelfEntry* entry, uint64 layout, ShelfLoan* loan) {
    loan->version = entry->version;
    if (!entry->has_book)
        return 0;
    bool outdated = entry->outdated;
    if (entry->layout == layout) {
        loan->handle = entry->handle;
        loan->usable = !outdated && entry->base >= entry->forgotten;
        if (loan->usable)
            list_changes(entry, loan);
    }
    entry->has_book = !outdated;
    entry->outdated = false;
    return outdated ? entry->handle : 0;
}

void shelf_borrow(const ShelfKey* key, uint64 layout, ShelfLoan* loan) {
    memset(static_cast<void*>(loan), 0, offsetof(ShelfLoan, changed));
    dsm_handle evicted = 0;
    TimestampTz now = GetCurrentTimestamp();
    LWLockAcquire(lock, LW_EXCLUSIVE);
    ShelfEntry* entry = entry_for(key, &evicted);
    entry->last_used = now;
    dsm_handle outdated = look(entry, layout, loan);
    LWLockRelease(lock);
    unpin(evicted);
    if (loan->handle != 0)
        loan->book = map_book(loan->handle);
    unpin(outdated);
    loan->usable = loan->usable && loan->book != NULL;
    drop_idle();
}

bool shelf_has(const ShelfKey* key, uint64 layout, uint32 rules) {
    bool found = false;
    LWLockAcquire(lock, LW_SHARED);
    for (const ShelfEntry& entry : shelf->entry)
        if (entry.used && same_book(&entry.key, key))
            found = entry.has_book && !entry.outdated && entry.layout == layout &&
                    entry.base >= entry.forgotten && entry.rule_count > rules;
    LWLockRelease(lock);
    return found;
}

// --- making a book ---

struct Making {
    dsm_segment* segment;
    Size size;
};

static void create_segment(void* argument) {
    Making* making = static_cast<Making*>(argument);
    making->segment = dsm_create(making->size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
    if (making->segment != NULL)
        dsm_pin_mapping(making->segment);
}

// Without room in shared memory the book is the session's own.
static void* place_shared(void* context, Size size) {
    Making* making = static_cast<Making*>(context);
    making->size = size;
    MemoryContext memory = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(memory);
    const ErrorData* error = attempt(create_segment, making);
    if (error == NULL) {
        ReleaseCurrentSubTransaction();
    } else {
        making->segment = NULL;
        RollbackAndReleaseCurrentSubTransaction();
    }
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = owner;
    if (making->segment == NULL)
        return MemoryContextAllocHuge(memory, size);
    return dsm_segment_address(making->segment);
}

// False: somebody's book is there by now, or a change came that the list no longer has.
static bool put_on_shelf(const ShelfKey* key, uint64 version, const Book* book, dsm_handle handle,
                         dsm_handle* old) {
    dsm_handle evicted = 0;
    LWLockAcquire(lock, LW_EXCLUSIVE);
    ShelfEntry* entry = entry_for(key, &evicted);
    bool fits = !entry->outdated && version >= entry->forgotten;
    if (fits) {
        *old = entry->has_book ? entry->handle : 0;
        entry->has_book = true;
        entry->handle = handle;
        entry->layout = book->layout;
        entry->rule_count = book->rule_count;
        entry->base = version;
    }
    LWLockRelease(lock);
    unpin(evicted);
    return fits;
}

Book* shelf_make(const ShelfKey* key, const BookWish* wish, ShelfLoan* loan) {
    Making making = {NULL, 0};
    mappings.grow();
    Book* book = book_build(wish, place_shared, &making);
    loan->book = book;
    loan->handle = 0;
    loan->count = 0;
    loan->usable = true;
    if (making.segment == NULL)
        return book;
    dsm_pin_segment(making.segment);
    (void)add_mapping(making.segment);
    loan->handle = dsm_segment_handle(making.segment);
    dsm_handle old = 0;
    if (put_on_shelf(key, loan->version, book, loan->handle, &old))
        unpin(old);
    else
        unpin(loan->handle); // ours alone, until it is given back
    return book;
}

static void lock_tag(LOCKTAG* tag, const ShelfKey* key) {
    // an advisory lock of a class that SQL cannot take
    uint64 which = static_cast<uint64>(key->tenant.tenant) * 31 + key->lead_table;
    SET_LOCKTAG_ADVISORY(*tag, key->tenant.database, key->tenant.assignment,
                         static_cast<uint32>(which ^ (which >> 32)), 0x4c53);
}

void shelf_lock(const ShelfKey* key) {
    LOCKTAG tag;
    lock_tag(&tag, key);
    (void)LockAcquire(&tag, ExclusiveLock, false, false);
}

void shelf_unlock(const ShelfKey* key) {
    LOCKTAG tag;
    lock_tag(&tag, key);
    (void)LockRelease(&tag, ExclusiveLock, false);
}

// --- changes of this transaction ---

struct OwnEdit {
    int64 tenant;
    int64 rule; // 0: all
    bool all_tenants;
};
static Growing<OwnEdit> own;

static void note(int64 tenant, int64 rule, bool all_tenants) {
    int kept = 0;
    for (int i = 0; i < own.count; i++) {
        const OwnEdit* edit = &own.items[i];
        if (edit->all_tenants ||
            (edit->tenant == tenant && (edit->rule == rule || edit->rule == 0)))
            return;
        if (rule == 0 && (all_tenants || edit->tenant == tenant))
            continue;
        own.items[kept++] = *edit;
    }
    own.count = kept;
    own.grow();
    own.items[own.count++] = {tenant, rule, all_tenants};
}

void rule_edit_note(int64 tenant, int64 rule) {
    // so many take as long to tell apart as all
    note(tenant, own.count < kShelfEdits / 2 ? rule : 0, false);
}

void rule_edit_note_all(int64 tenant, bool all_tenants) {
    note(tenant, 0, all_tenants);
}

bool rule_edits_own(int64 tenant, int64* rules, int room, int* count) {
    for (int i = 0; i < own.count; i++) {
        const OwnEdit* edit = &own.items[i];
        if (!edit->all_tenants && edit->tenant != tenant)
            continue;
        if (edit->rule == 0 || *count == room)
            return false;
        rules[(*count)++] = edit->rule;
    }
    return true;
}

static void publish(ShelfEntry* entry, const OwnEdit* edit) {
    entry->version = shelf->versions;
    if (edit->rule == 0) {
        entry->outdated = entry->outdated || entry->has_book;
        entry->forgotten = entry->version; // one that is being made may lack it
        return;
    }
    ShelfEdit* place = &entry->edit[entry->edits % kShelfEdits];
    if (entry->edits >= kShelfEdits)
        entry->forgotten = Max(entry->forgotten, place->version);
    *place = {entry->version, edit->rule};
    entry->edits++;
}

void rule_edits_commit(void) {
    if (own.count == 0 || shelf == NULL)
        return;
    LWLockAcquire(lock, LW_EXCLUSIVE);
    for (int i = 0; i < own.count; i++) {
        const OwnEdit* edit = &own.items[i];
        shelf->versions++;
        for (ShelfEntry& entry : shelf->entry)
            if (entry.used && entry.key.tenant.database == MyDatabaseId &&
                (edit->all_tenants || entry.key.tenant.tenant == edit->tenant))
                publish(&entry, edit);
    }
    LWLockRelease(lock);
}

void rule_edits_forget(void) {
    own.count = 0;
}
