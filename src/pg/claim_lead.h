// A lead table as claims meet it: its leads are locked and told their owner with the rights and the
// search_path of the table's owner, as the backlog does, by plans that the session keeps.
#pragma once

#include "leadroute.h"

#include "lead_direct.h"
#include "lead_table.h"

struct ClaimTable {
    int32 id; // of the attachment
    char* name;
    char* sla; // policy's name, or NULL
    Oid relation;
    Oid key_type;
    Oid owner_type;
    OwnerKind owner_kind;
    bool has_tenant;

    // the rest is claim_lead.cpp's
    ClaimTable* next;
    MemoryContext context;
    bool outdated;
    uint64 attachments;
    uint64 serial;
    LocalTransactionId retired; // the transaction in which it was replaced
    LeadRights rights;          // of the table's owner
    char* deferred;             // names of its constraints that are checked at the end, or NULL
    bool is_direct;             // its leads are dealt with without statements
    DirectLead direct;
    DirectWork work; // open for many leads, in this subtransaction of this transaction
    LocalTransactionId work_transaction;
    SubTransactionId work_level;
    char* statement[4];
    SPIPlanPtr plan[4];
};

// Good until the end of the transaction. LR002 when there is no such attachment, or no table.
ClaimTable* claim_table(int32 id);
ClaimTable* claim_table_named(const char* name);
// The relation of the attachment, if that is known by now; else InvalidOid.
Oid claim_relation(int32 id);

// A lead's key and tenant, as parameters. `text` is the key's output form.
struct ClaimKey {
    int64 tenant;
    Datum value;
    const char* text;
};
// False: no lead can have such a key.
bool claim_key(const ClaimTable* table, int64 tenant, const char* text, ClaimKey* key);
enum class LeadLock { locked, skipped }; // skipped: there is none, or with `skip` it is locked
// Locks the lead's row until the end of the transaction; *was is its owner as text, or NULL, in the
// memory context at hand.
LeadLock lead_lock(ClaimTable* table, const ClaimKey* key, bool skip, char** was);
// Who deals with many leads in one transaction, or subtransaction, keeps the table open meanwhile.
void leads_open(ClaimTable* table);
void leads_close(ClaimTable* table);
// The table, open, if what becomes of one of its leads cannot fail unless it fails for them all;
// NULL: that is not known.
ClaimTable* leads_open_sure(int32 id);
// The row of the lead locked last, in a slot of its table; NULL: it is gone. *made: the slot is a
// new one, for the caller to drop.
TupleTableSlot* lead_row(ClaimTable* table, const ClaimKey* key, Relation relation, bool* made);
// Whether its owner will be told without a statement, so that nobody's triggers see what is on
// record meanwhile.
bool lead_is_direct(const ClaimTable* table);
// Tells the lead its owner (NULL: none), of which the record knows already. False: a trigger of the
// table has named another one, which is on record, too. LR010 where the owner is still the one that
// was. The table's deferred constraints are checked at once.
bool lead_update(ClaimTable* table, const ClaimKey* key, const Datum* owner, const char* was);
