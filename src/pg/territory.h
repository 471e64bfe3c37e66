// Looking up which entry of a territory a lead's key belongs to.
//
// Entries are not in shared memory: there may be 60,000 in each territory, and a look-up in their
// primary key costs little. Each session keeps the latest keys it met, found or not, in a table of
// fixed size, and forgets them when an entry changes.
#pragma once

#include "leadroute.h"

struct TerritoryQuestion {
    int64 tenant;
    const char* territory;
    bool prefix; // the longest entry that the key begins with, not the one that equals it
    const char* key;
    int32 length;
};
struct TerritoryTarget {
    bool found;
    int32 pool; // id, 0: the target is a rep
    int64 rep;
};
// A pool's id by its name.
typedef int32 (*PoolNamer)(void* context, const char* name);

// Reads what is committed now and what this transaction has written, in memory of the caller's
// current context. Takes AccessShareLock on leadroute.territory_entry until the transaction ends,
// unless the key is known.
void territory_find(const TerritoryQuestion* question, PoolNamer pool_id, void* context,
                    TerritoryTarget* target);
// Makes the session look keys up anew.
void territory_forget(void);
// From the relcache's callback: an entry may have changed.
void territory_relation_changed(Oid relation);

// Raises what is wrong with the key of this territory over this lead relation, if there is such a
// territory (territory_check.cpp).
void territory_check_key(Relation lead, int64 tenant, const char* territory);
