// What a session knows of a lead relation (an attached table, or a partition of one): where its
// key, owner and tenant are, and the compiled rules of the tenants met in it.
#pragma once

#include "leadroute.h"

#include "frame.h"
#include "pick.h"
#include "rules.h"

enum class OwnerKind { int2, int4, int8, text, uuid };

// Rules of one tenant, compiled for this relation.
struct TenantRules {
    TenantRules* next;
    MemoryContext context;
    TenantKey key;
    RuleSet* rules;
    HTAB* refs;          // rep id -> ref, for owner columns that take a ref
    int32 fallback_pool; // id, 0: none
    int32 sla;           // policy's id, 0: none
    int32* value_pools;  // ids of the pools that a lead's value matters to
    int value_pool_count;
    uint64 generation; // of the configuration with its rules
    uint64 around;     // of the rest of it
    uint64 serial;
    uint64 checked_for; // statement for which all this was found current
};

struct LeadTable {
    Oid relation; // hash key
    bool outdated;
    MemoryContext context;
    int32 id;
    uint64 attachments;
    uint64 serial;
    AttrNumber key_column;
    AttrNumber owner_column;
    AttrNumber tenant_column;   // InvalidAttrNumber: tenant 0
    AttrNumber location_column; // of type point; InvalidAttrNumber: none
    AttrNumber score_column;    // of a number type; InvalidAttrNumber: none
    Oid score_type;
    Oid key_type;
    Oid key_output;
    Oid tenant_type;
    OwnerKind owner_kind;
    bool sticky;               // it has a sticky_on
    bool later_before_trigger; // sorts after ours: may drop or change the row
    Oid after_trigger;         // that records what could not be recorded before
    char after_enabled;        // its pg_trigger.tgenabled
    char* name;
    char* fallback_pool; // name, or NULL
    char* value;         // value_expression, or NULL
    char* value_author;
    char* sla; // policy's name, or NULL
    TenantRules* tenants;
    int tenant_count;
};

// The relation of this trigger call. Error: LR003 when it no longer is as attach() found it, LR002
// when the trigger's attachment is gone.
LeadTable* lead_table_for(const TriggerData* trigger);
// The same without a trigger call at hand: of a table that route_lead() is a trigger of, else
// LR002.
LeadTable* lead_table_of(Relation relation);

// The tenant's rules, compiled when they changed since the statement before.
TenantRules* lead_table_rules(LeadTable* table, Relation relation, const TenantKey* key,
                              const Frame* frame);

// What the tenant's committed configuration is known by: it moves on with every change.
uint64 tenant_generation(const TenantKey* key);

// The tenant's rules for somebody who only asks, below the current memory context; see
// rules_rehearse().
TenantRules* lead_table_rehearse(LeadTable* table, Relation relation, const TenantKey* key);

// What an owner column of this type holds; false: it can hold no owner.
bool owner_kind_of(Oid type, OwnerKind* kind);
// The owner column's value for a rep with this ref (NULL: none that the column can hold). False: it
// cannot be said in this column.
bool owner_of(OwnerKind kind, int64 rep, const char* ref, Datum* owner);
// The same for a rep whose ref the rules know.
bool owner_from_rep(const LeadTable* table, const TenantRules* rules, int64 rep, Datum* owner);
// The rep that an owner value names; false: none that is known.
bool rep_from_owner(const LeadTable* table, int64 tenant, Datum owner, int64* rep);
RefNeed ref_need(OwnerKind kind);
