// The record's relation and its indexes as record.cpp writes them: opened once in a transaction,
// and described once in a session.
//
// Relation handles belong to the transaction's own resource owner, so that a subtransaction that
// rolls back does not close them. Which indexes there are, and which of their predicates a row
// satisfies, is asked of the server (a DBA may add indexes); what it says is kept until the
// relation changes.
#pragma once

#include "leadroute.h"

// The columns that are written; the others are NULL or their default.
enum Column {
    C_TENANT,
    C_TICKET,
    C_DECIDED_AT,
    C_REP,
    C_RULE,
    C_LEAD_TABLE,
    C_EPISODE,
    C_POOL,
    C_DAY,
    C_REP_CAP,
    C_MEMBER_CAP,
    C_DEFICIT,
    C_TAG,
    C_LEAD_ID,
    C_METHOD,
    C_EXPLANATION,
    C_LABEL,
    C_OPEN_CAP,
    C_CONTACT,
    C_COST,
    C_SCORE,
    C_NEEDS,
    C_AT_FRONT,
    C_AVOID,
    C_OFFERED_TO,
    C_OFFERED_UNTIL,
    C_SLA,
    C_DUE_AT,
    C_NEXT_STEP_AT,
    C_HOPS,
    C_POOL_BOUND,
    C_RULE_VERSION,
    kColumns
};
constexpr int kMaxIndexes = 24;

struct IndexTarget {
    Oid oid;
    Relation relation; // open in this transaction, or NULL
    IndexInfo* info;
    ExprState* predicate; // NULL: every row
    bool by_contact;      // of rows with a contact alone
    bool by_step;         // of rows with a next step alone
    bool by_waiting;      // of rows without a rep alone
};

// An assignment relation as this session knows it. Lives in a context of its own.
struct Target {
    MemoryContext context;
    Relation relation; // open in this transaction, or NULL
    EState* executor;
    TupleTableSlot* slot;
    Oid oid;
    int index_count;
    AttrNumber column[kColumns];
    bool outdated;
    uint64 described; // another number each time that it is described anew
    IndexTarget index[kMaxIndexes];
};

// The relation, opened for this transaction and locked RowExclusive. LR014 when it lacks a column,
// LR005 when it has too many indexes.
Target* target_open(Oid assignment);
Relation target_index(IndexTarget* index); // opened for this transaction
