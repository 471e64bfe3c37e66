// What a transaction does to others' memory beside its turns; see notes.h and transaction.h.
#include "notes.h"
#include "backlog.h"
#include "growing.h"
#include "presence.h"
#include "rule_shelf.h"
#include "tenant.h"
#include "transaction.h"

struct Changed {
    int64 tenant;
    bool all_tenants;
    bool rules_only;
};

// A record with rows that memory may not count.
struct Edited {
    TenantKey key;
    bool by_hand;
};

struct Noted {
    TenantSlot* slot;
    uint64 incarnation;
    uint64 key; // of an alert; 0: a checkpoint
    int level;
};

static Growing<Changed> changed;
static Growing<Edited> edited;
static Growing<Noted> noted;
static bool attachments;
static uint64 serial = 1;

static void change(int64 tenant, bool all_tenants, bool rules_only) {
    serial++;
    for (int i = 0; i < changed.count; i++)
        if (changed.items[i].all_tenants == all_tenants && changed.items[i].tenant == tenant) {
            changed.items[i].rules_only = changed.items[i].rules_only && rules_only;
            return;
        }
    changed.grow();
    changed.items[changed.count++] = {tenant, all_tenants, rules_only};
    backlog_prepare();
}

void config_changed(int64 tenant, bool all_tenants) {
    change(tenant, all_tenants, false);
}

void rules_changed(int64 tenant) {
    change(tenant, false, true);
}

bool config_is_draft(int64 tenant) {
    for (int i = 0; i < changed.count; i++)
        if (changed.items[i].all_tenants || changed.items[i].tenant == tenant)
            return true;
    return presence_changed(tenant);
}

void draft_outdated(void) {
    serial++;
}

static bool has_draft(void) {
    return changed.count > 0 || presence_changed_any();
}

void charge_undo_draft(void) {
    if (has_draft())
        draft_outdated();
}

uint64 config_serial(void) {
    return serial;
}

void attachments_changed(void) {
    attachments = true;
    config_changed(0, true);
}

void record_edited(Oid assignment, int64 tenant, bool by_hand) {
    TenantKey key = {MyDatabaseId, assignment, tenant};
    if (by_hand)
        draft_outdated();
    for (int i = 0; i < edited.count; i++)
        if (same_key(&edited.items[i].key, &key)) {
            edited.items[i].by_hand |= by_hand;
            return;
        }
    edited.grow();
    edited.items[edited.count++] = {key, by_hand};
}

bool record_is_edited(const TenantKey* key) {
    for (int i = 0; i < edited.count; i++)
        if (edited.items[i].by_hand && same_key(&edited.items[i].key, key))
            return true;
    return false;
}

bool alert_raised_here(TenantSlot* slot, uint64 key) {
    for (int i = 0; i < noted.count; i++)
        if (noted.items[i].slot == slot && noted.items[i].key == key)
            return true;
    return false;
}

static void note(TenantSlot* slot, uint64 key) {
    noted.grow();
    noted.items[noted.count++] = {slot, slot == NULL ? 0 : slot->incarnation, key,
                                  GetCurrentTransactionNestLevel()};
}

void alert_note(TenantSlot* slot, uint64 key) {
    note(slot, key);
}

void checkpoint_note(TenantSlot* slot) {
    note(slot, 0);
}

static void publish_note(const Noted* n, bool committed) {
    TenantSlot* slot = n->slot;
    if (slot == NULL)
        return;
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    if (slot->used && slot->incarnation == n->incarnation) {
        if (n->key == 0 && slot->checkpoint_by == MyProcPid) {
            slot->checkpoint_by = 0;
            if (committed) {
                slot->checkpoint_wanted = false;
                slot->since_checkpoint = 0;
            }
        } else if (n->key != 0 && committed) {
            int oldest = 0;
            for (int i = 1; i < kRecentAlerts; i++)
                if (slot->recent[i].raised < slot->recent[oldest].raised)
                    oldest = i;
            slot->recent[oldest] = {n->key, GetCurrentTimestamp()};
        }
    }
    LWLockRelease(slot_lock(slot));
}

void notes_before_prepare(void) {
    presence_before_prepare();
    if (changed.count > 0 || edited.count > 0 || attachments)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("cannot PREPARE a transaction that changed leadroute's configuration"),
                 errdetail("Nobody would be told of the change when it is committed."),
                 errhint("COMMIT it, or insert the leads in a transaction of their own.")));
}

void notes_end(int level, bool committed) {
    presence_end_level(level, committed);
    int kept = 0;
    for (int i = 0; i < noted.count; i++) {
        Noted n = noted.items[i];
        if (n.level >= level) {
            if (!committed) {
                publish_note(&n, false);
                continue;
            }
            n.level = level - 1;
        }
        noted.items[kept++] = n;
    }
    noted.count = kept;
    if (!committed && has_draft()) // the change may be undone: read the configuration again
        draft_outdated();
}

void notes_commit(void) {
    rule_edits_commit(); // before anybody is told that there is something new
    presence_commit();
    backlog_commit();
    if (attachments)
        pg_atomic_add_fetch_u64(&shared->attachments, 1);
    for (int i = 0; i < changed.count; i++)
        slots_outdate(MyDatabaseId, changed.items[i].tenant, changed.items[i].all_tenants,
                      changed.items[i].rules_only);
    for (int i = 0; i < edited.count; i++) {
        TenantSlot* slot = slot_find(&edited.items[i].key);
        if (slot == NULL)
            continue;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        if (slot->used && same_key(&slot->key, &edited.items[i].key))
            slot->recount = true;
        LWLockRelease(slot_lock(slot));
        backlog_want(slot);
    }
    for (int i = 0; i < noted.count; i++)
        publish_note(&noted.items[i], true);
}

void notes_forget(void) {
    if (edited.count > 0)
        edits_end();
    if (has_draft() || edited.count > 0)
        draft_outdated();
    presence_forget();
    rule_edits_forget();
    changed.count = edited.count = noted.count = 0;
    attachments = false;
}
