// Locking the row of a lead by its primary key, without a query: of ordinary tables, where a query
// would find it the same way. Takes no rights into account.
#pragma once

#include "leadroute.h"

// How a table's leads are found. Valid until the relation changes.
struct LeadFinder {
    bool usable; // false: only a query will do
    Oid index;   // of the primary key
    AttrNumber owner;
    Oid owner_output;
    int count; // of its columns
    struct {
        AttrNumber column;
        bool tenant; // else the key
        Oid tenant_type;
        RegProcedure equal;
        Oid collation;
    } key[2];
};
// The key's and the tenant's column by name; tenant NULL: there is none.
void lead_finder(Relation relation, const char* key, const char* tenant, const char* owner,
                 LeadFinder* finder);

// As SELECT ... FOR NO KEY UPDATE, with `skip` SKIP LOCKED. False: there is no such row, or it is
// skipped. *was is the owner as text, or NULL, in the memory context at hand. The relation is
// locked, RowShare.
bool lead_find_lock(Oid relation, const LeadFinder* finder, Datum key, int64 tenant, bool skip,
                    char** was);
