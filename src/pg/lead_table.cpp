// The session's knowledge of lead relations; see lead_table.h.
#include "lead_table.h"
#include "alert.h"
#include "lead_value.h"
#include "placement.h"
#include "score.h"
#include "transaction.h"

extern "C" {
#include "catalog/pg_proc.h"
}

constexpr int kTenantsKept = 64;
constexpr int kRefSize = 128;

struct RefEntry {
    int64 rep;
    char ref[kRefSize];
};

static HTAB* tables; // by relation
static MemoryContext tables_context;

static void relation_changed(Datum, Oid relation) {
    if (tables == NULL)
        return;
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, tables);
    while (LeadTable* table = static_cast<LeadTable*>(hash_seq_search(&scan)))
        if (relation == InvalidOid || table->relation == relation)
            table->outdated = true;
}

static void make_tables(void) {
    tables_context =
        AllocSetContextCreate(TopMemoryContext, "leadroute lead tables", ALLOCSET_DEFAULT_SIZES);
    HASHCTL control = {};
    control.keysize = sizeof(Oid);
    control.entrysize = sizeof(LeadTable);
    control.hcxt = tables_context;
    tables =
        hash_create("leadroute lead tables", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    CacheRegisterRelcacheCallback(relation_changed, (Datum)0);
}

static void refuse(Relation relation, const char* detail) {
    ereport(ERROR, (errcode(ERRCODE_LR_TABLE_UNSUITABLE),
                    errmsg("lead table \"%s\" is no longer as it was attached",
                           RelationGetRelationName(relation)),
                    errdetail("%s", detail),
                    errhint("Call leadroute.detach() and leadroute.attach() again.")));
}

// Does another BEFORE ROW INSERT trigger run after ours?
static bool has_later_trigger(Relation relation, const Trigger* ours) {
    const TriggerDesc* triggers = relation->trigdesc;
    for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++) {
        const Trigger* other = &triggers->triggers[i];
        if (TRIGGER_FOR_BEFORE(other->tgtype) && TRIGGER_FOR_ROW(other->tgtype) &&
            TRIGGER_FOR_INSERT(other->tgtype) && strcmp(other->tgname, ours->tgname) > 0)
            return true;
    }
    return false;
}

// Finds our own AFTER ROW INSERT trigger.
static void find_after_trigger(LeadTable* table, Relation relation) {
    const TriggerDesc* triggers = relation->trigdesc;
    Oid schema = get_namespace_oid("leadroute", false);
    for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++) {
        const Trigger* trigger = &triggers->triggers[i];
        if (TRIGGER_FOR_AFTER(trigger->tgtype) && TRIGGER_FOR_ROW(trigger->tgtype) &&
            TRIGGER_FOR_INSERT(trigger->tgtype) && get_func_namespace(trigger->tgfoid) == schema) {
            table->after_trigger = trigger->tgoid;
            table->after_enabled = trigger->tgenabled;
        }
    }
}

static AttrNumber named_column(Relation relation, const char* name, const char* what) {
    AttrNumber number = get_attnum(RelationGetRelid(relation), name);
    if (number <= 0)
        refuse(relation, psprintf("It has no column \"%s\" for the lead's %s.", name, what));
    return number;
}

static char* text_column(int column) {
    char* value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
    return value;
}

// A column that is gone or retyped is as one without a place in any lead: no insert fails for it.
static AttrNumber location_column(Relation relation, const char* name) {
    if (name == NULL)
        return InvalidAttrNumber;
    AttrNumber number = get_attnum(RelationGetRelid(relation), name);
    if (number <= 0)
        return InvalidAttrNumber;
    Oid type = TupleDescAttr(RelationGetDescr(relation), number - 1)->atttypid;
    if (type != POINTOID)
        return InvalidAttrNumber;
    return number;
}

static char* kept(const LeadTable* table, const char* text) {
    return text == NULL ? NULL : MemoryContextStrdup(table->context, text);
}

// Reads the attachment's row and finds its columns in this relation.
static void describe(LeadTable* table, Relation relation) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {INT4OID};
    Datum values[] = {Int32GetDatum(table->id)};
    if (SPI_execute_with_args("SELECT name, key_column, owner_column, tenant_column, fallback_pool,"
                              " location_column, sticky_on IS NOT NULL, value_expression,"
                              " value_author, score_column, sla"
                              " FROM leadroute.lead_table WHERE id = $1",
                              1, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.lead_table");
    if (SPI_processed == 0)
        ereport(ERROR,
                (errcode(ERRCODE_LR_NOT_ATTACHED),
                 errmsg("lead table \"%s\" is not attached", RelationGetRelationName(relation)),
                 errdetail("Its trigger names attachment %d, which is gone.", table->id),
                 errhint("Drop the trigger, or call leadroute.attach() again.")));
    table->name = MemoryContextStrdup(table->context, text_column(1));
    table->key_column = named_column(relation, text_column(2), "key");
    table->owner_column = named_column(relation, text_column(3), "owner");
    char* tenant = text_column(4);
    table->tenant_column = InvalidAttrNumber;
    if (tenant != NULL)
        table->tenant_column = named_column(relation, tenant, "tenant");
    table->fallback_pool = kept(table, text_column(5));
    table->location_column = location_column(relation, text_column(6));
    table->sticky = strcmp(text_column(7), "t") == 0;
    table->value = kept(table, text_column(8));
    table->value_author = kept(table, text_column(9));
    table->score_column = score_column_in(relation, text_column(10), &table->score_type);
    table->sla = kept(table, text_column(11));
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);

    TupleDesc columns = RelationGetDescr(relation);
    bool variable;
    table->key_type = getBaseType(TupleDescAttr(columns, table->key_column - 1)->atttypid);
    getTypeOutputInfo(table->key_type, &table->key_output, &variable);
    if (!owner_kind_of(TupleDescAttr(columns, table->owner_column - 1)->atttypid,
                       &table->owner_kind))
        refuse(relation, "The owner column is not integer, bigint, text or uuid.");
    if (table->tenant_column != InvalidAttrNumber)
        table->tenant_type =
            getBaseType(TupleDescAttr(columns, table->tenant_column - 1)->atttypid);
}

static int attachment_of(const Trigger* trigger) {
    if (trigger->tgnargs != 1)
        ereport(ERROR, (errcode(ERRCODE_LR_NOT_ATTACHED),
                        errmsg("trigger \"%s\" names no attachment", trigger->tgname),
                        errhint("Triggers of leadroute are made by leadroute.attach().")));
    return pg_strtoint32(trigger->tgargs[0]);
}

// The trigger that routes the leads of this relation.
static const Trigger* routing_trigger(Relation relation) {
    const TriggerDesc* triggers = relation->trigdesc;
    for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++) {
        const Trigger* trigger = &triggers->triggers[i];
        const char* name = get_func_name(trigger->tgfoid);
        if (name != NULL && strcmp(name, "route_lead") == 0 &&
            get_func_namespace(trigger->tgfoid) == leadroute_schema())
            return trigger;
    }
    ereport(ERROR, (errcode(ERRCODE_LR_NOT_ATTACHED),
                    errmsg("table \"%s\" is not attached", RelationGetRelationName(relation)),
                    errdetail("It has no trigger that calls leadroute.route_lead()."),
                    errhint("Attach it with leadroute.attach().")));
    return NULL;
}

static uint64 attachments_now(void) {
    return shared_ready() ? pg_atomic_read_u64(&shared->attachments) : 0;
}

static LeadTable* find_table(Relation relation, const Trigger* trigger) {
    if (tables == NULL)
        make_tables();
    bool found;
    Oid oid = RelationGetRelid(relation);
    LeadTable* table = static_cast<LeadTable*>(hash_search(tables, &oid, HASH_ENTER, &found));
    if (found && !table->outdated && table->attachments == attachments_now() &&
        table->serial == config_serial())
        return table;

    if (trigger == NULL)
        trigger = routing_trigger(relation);
    if (found && table->context != NULL)
        MemoryContextDelete(table->context);
    memset(static_cast<void*>(table), 0, sizeof(*table));
    table->relation = oid;
    table->outdated = true; // until all is known: what follows may fail
    uint64 attachments = attachments_now();
    uint64 serial = config_serial();
    table->context =
        AllocSetContextCreate(tables_context, "leadroute lead table", ALLOCSET_SMALL_SIZES);
    version_require();
    table->id = attachment_of(trigger);
    describe(table, relation);
    table->later_before_trigger = has_later_trigger(relation, trigger);
    find_after_trigger(table, relation);
    table->attachments = attachments;
    table->serial = serial;
    table->outdated = false;
    return table;
}

LeadTable* lead_table_for(const TriggerData* trigger) {
    return find_table(trigger->tg_relation, trigger->tg_trigger);
}

LeadTable* lead_table_of(Relation relation) {
    return find_table(relation, NULL);
}

// --- the rules of a tenant ---

RefNeed ref_need(OwnerKind kind) {
    if (kind == OwnerKind::text)
        return RefNeed::text;
    return kind == OwnerKind::uuid ? RefNeed::uuid : RefNeed::none;
}

static void read_refs(TenantRules* tenant) {
    HASHCTL control = {};
    control.keysize = sizeof(int64);
    control.entrysize = sizeof(RefEntry);
    control.hcxt = tenant->context;
    tenant->refs =
        hash_create("leadroute refs", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(tenant->key.tenant)};
    if (SPI_execute_with_args("SELECT id, ref FROM leadroute.rep"
                              " WHERE tenant = $1 AND ref IS NOT NULL AND length(ref) < 128",
                              1, types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.rep");
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull, found;
        int64 rep =
            DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
        RefEntry* entry =
            static_cast<RefEntry*>(hash_search(tenant->refs, &rep, HASH_ENTER, &found));
        strlcpy(entry->ref, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2),
                kRefSize);
    }
}

static void read_fallback(const LeadTable* table, TenantRules* tenant) {
    if (table->fallback_pool == NULL)
        return;
    Oid types[] = {INT8OID, TEXTOID};
    Datum values[] = {Int64GetDatum(tenant->key.tenant), CStringGetTextDatum(table->fallback_pool)};
    if (SPI_execute_with_args("SELECT id FROM leadroute.pool WHERE tenant = $1 AND name = $2", 2,
                              types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.pool");
    if (SPI_processed == 1) {
        bool isnull;
        tenant->fallback_pool =
            DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    }
}

// The pools with the method value, and those that a lead may reach one from.
static void read_value_pools(const LeadTable* table, TenantRules* tenant) {
    if (table->value == NULL)
        return;
    Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(tenant->key.tenant)};
    if (SPI_execute_with_args(
            "WITH RECURSIVE reaches AS ("
            " SELECT p.id, p.name FROM leadroute.pool p WHERE p.tenant = $1 AND p.method = 'value'"
            " UNION SELECT p.id, p.name FROM leadroute.pool p JOIN reaches r"
            "   ON p.overflow_pool = r.name WHERE p.tenant = $1)"
            " SELECT id FROM reaches",
            1, types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.pool");
    tenant->value_pool_count = static_cast<int>(SPI_processed);
    tenant->value_pools = static_cast<int32*>(
        MemoryContextAlloc(tenant->context, sizeof(int32) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        tenant->value_pools[i] =
            DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
    }
}

// What the owner column and the fallback need to know of the tenant.
static void read_around(const LeadTable* table, TenantRules* tenant) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    if (ref_need(table->owner_kind) != RefNeed::none)
        read_refs(tenant);
    read_fallback(table, tenant);
    read_value_pools(table, tenant);
    tenant->sla = sla_policy_id(tenant->key.tenant, table->sla);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
}

static void compile_value(const LeadTable* table, const TenantRules* tenant, Relation relation) {
    if (tenant->value_pool_count > 0)
        lead_value_compile(tenant->rules, relation, table->name, table->value, table->value_author);
}

TenantRules* lead_table_rehearse(LeadTable* table, Relation relation, const TenantKey* key) {
    TenantRules* tenant = static_cast<TenantRules*>(palloc0(sizeof(TenantRules)));
    tenant->context = CurrentMemoryContext;
    tenant->key = *key;
    tenant->rules = rules_rehearse(relation, table->id, key->tenant);
    read_around(table, tenant);
    compile_value(table, tenant, relation);
    return tenant;
}

static void unlink_tenant(LeadTable* table, TenantRules* tenant) {
    TenantRules** link = &table->tenants;
    while (*link != tenant)
        link = &(*link)->next;
    *link = tenant->next;
    table->tenant_count--;
}

static void drop_tenant(LeadTable* table, TenantRules* tenant) {
    unlink_tenant(table, tenant);
    rules_free(tenant->rules);
    MemoryContextDelete(tenant->context);
}

// The one looked for, moved to the front: the list is in order of use.
static TenantRules* find_tenant(LeadTable* table, const TenantKey* key) {
    for (TenantRules* tenant = table->tenants; tenant != NULL; tenant = tenant->next) {
        if (!same_key(&tenant->key, key))
            continue;
        if (tenant != table->tenants) {
            unlink_tenant(table, tenant);
            tenant->next = table->tenants;
            table->tenants = tenant;
            table->tenant_count++;
        }
        return tenant;
    }
    return NULL;
}

uint64 tenant_generation(const TenantKey* key) {
    TenantSlot* slot = config_is_draft(key->tenant) ? slot_find(key) : tenant_ready(key);
    return slot == NULL ? pg_atomic_read_u64(&shared->generation)
                        : pg_atomic_read_u64(&slot->rules_generation);
}

// What the rest of it is known by.
static uint64 around_generation(const TenantKey* key) {
    TenantSlot* slot = slot_find(key);
    return slot == NULL ? pg_atomic_read_u64(&shared->generation)
                        : pg_atomic_read_u64(&slot->wanted_generation);
}

// What is known of the tenant without its rules, as far as it is still so: it is in no list.
static TenantRules* known_around(LeadTable* table, TenantRules* known, const TenantKey* key) {
    uint64 around = around_generation(key);
    if (known != NULL && known->around == around && known->serial == config_serial()) {
        unlink_tenant(table, known);
        rules_free(known->rules);
        known->rules = NULL;
        MemoryContextSetParent(known->context, CurrentMemoryContext);
        return known;
    }
    if (known != NULL)
        drop_tenant(table, known);
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "leadroute tenant's rules",
                                                  ALLOCSET_SMALL_SIZES);
    TenantRules* made =
        static_cast<TenantRules*>(MemoryContextAllocZero(context, sizeof(TenantRules)));
    made->context = context;
    made->key = *key;
    made->serial = config_serial();
    read_around(table, made);
    made->around = around;
    return made;
}

TenantRules* lead_table_rules(LeadTable* table, Relation relation, const TenantKey* key,
                              const Frame* frame) {
    alert_tenant(key);
    TenantRules* tenant = find_tenant(table, key);
    if (tenant != NULL && tenant->checked_for == frame->number)
        return tenant;
    uint64 generation = tenant_generation(key);
    if (tenant != NULL && tenant->generation == generation && tenant->serial == config_serial() &&
        rules_valid(tenant->rules)) {
        tenant->checked_for = frame->number;
        return tenant;
    }
    tenant = known_around(table, tenant, key);
    tenant->rules = rules_compile(relation, table->id, key->tenant, tenant->context);
    compile_value(table, tenant, relation);
    if (table->tenant_count >= kTenantsKept) {
        TenantRules* oldest = table->tenants;
        while (oldest->next != NULL)
            oldest = oldest->next;
        drop_tenant(table, oldest);
    }
    MemoryContextSetParent(tenant->context, table->context);
    tenant->generation = generation;
    tenant->checked_for = frame->number;
    tenant->next = table->tenants;
    table->tenants = tenant;
    table->tenant_count++;
    return tenant;
}

// --- the owner a rep stands for ---

bool owner_from_rep(const LeadTable* table, const TenantRules* rules, int64 rep, Datum* owner) {
    const RefEntry* entry = NULL;
    if (ref_need(table->owner_kind) != RefNeed::none)
        entry = static_cast<const RefEntry*>(hash_search(rules->refs, &rep, HASH_FIND, NULL));
    return owner_of(table->owner_kind, rep, entry == NULL ? NULL : entry->ref, owner);
}
