// Policies in a block, and the clock of a pick; see sla.h.
#include "sla.h"
#include "availability.h"
#include "pick.h"
#include "record.h"
#include "sla_far.h"

// --- from the tables ---

// The first step of a policy, and the breach is one, in microseconds after the assignment.
static const char kPolicies[] =
    "SELECT s.id, s.business_time, t.touch,"
    " LEAST(t.touch, (SELECT min(GREATEST(1, COALESCE((EXTRACT(epoch FROM p.after) * "
    "1000000)::bigint, (t.touch * p.share)::bigint)))"
    "   FROM leadroute.sla_step p WHERE p.tenant = s.tenant AND p.policy = s.name))"
    " FROM leadroute.sla_policy s"
    " CROSS JOIN LATERAL (SELECT (EXTRACT(epoch FROM s.first_touch) * 1000000)::bigint AS touch) t"
    " WHERE s.tenant = $1 ORDER BY s.id";

static int64 number(SPITupleTable* table, uint64 row, int column) {
    bool isnull;
    return DatumGetInt64(SPI_getbinval(table->vals[row], table->tupdesc, column, &isnull));
}

static void read_rules(int64 tenant, SlaRows* out, MemoryContext context) {
    Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(tenant)};
    if (SPI_execute_with_args("SELECT r.id, s.id FROM leadroute.rule r JOIN leadroute.sla_policy s"
                              " ON s.tenant = r.tenant AND s.name = r.sla"
                              " WHERE r.tenant = $1 AND r.sla IS NOT NULL ORDER BY r.id",
                              1, types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.rule");
    SPITupleTable* rows = SPI_tuptable;
    out->rule_count = (int32)SPI_processed;
    out->rules = static_cast<RulePolicy*>(
        MemoryContextAllocHuge(context, sizeof(RulePolicy) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        out->rules[i] = {number(rows, i, 1),
                         DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull))};
    }
    SPI_freetuptable(rows);
}

void sla_read(int64 tenant, SlaRows* out, MemoryContext context) {
    static SPIPlanPtr plan;
    if (plan == NULL) {
        Oid types[] = {INT8OID};
        SPIPlanPtr made = SPI_prepare(kPolicies, 1, types);
        if (made == NULL || SPI_keepplan(made) != 0)
            elog(ERROR, "cannot prepare to read policies: %s", SPI_result_code_string(SPI_result));
        plan = made;
    }
    Datum values[] = {Int64GetDatum(tenant)};
    if (SPI_execute_plan(plan, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.sla_policy");
    SPITupleTable* rows = SPI_tuptable;
    out->count = (int32)SPI_processed;
    out->policies = static_cast<SlaPolicy*>(
        MemoryContextAllocHuge(context, sizeof(SlaPolicy) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        SlaPolicy* policy = &out->policies[i];
        memset(static_cast<void*>(policy), 0, sizeof(*policy));
        policy->id = DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
        policy->business_time =
            DatumGetBool(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
        policy->first_touch = number(rows, i, 3);
        policy->first_step = number(rows, i, 4);
    }
    SPI_freetuptable(rows);
    out->rule_count = 0;
    out->rules = NULL;
    if (out->count > 0)
        read_rules(tenant, out, context);
}

int32 sla_policy_id(int64 tenant, const char* name) {
    Oid types[] = {INT8OID, TEXTOID};
    Datum values[] = {Int64GetDatum(tenant), name == NULL ? (Datum)0 : CStringGetTextDatum(name)};
    if (name == NULL)
        return 0;
    if (SPI_execute_with_args("SELECT id FROM leadroute.sla_policy WHERE tenant = $1 AND name = $2",
                              2, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.sla_policy");
    bool isnull;
    return SPI_processed == 0 ? 0
                              : DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0],
                                                            SPI_tuptable->tupdesc, 1, &isnull));
}

int32 sla_policy_now(int64 tenant, const char* name) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    int32 id = sla_policy_id(tenant, name);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return id;
}

void sla_fill(TenantBlock* block, const SlaRows* from, const Availability* availability) {
    for (int32 i = 0; i < from->rule_count; i++)
        *block->rule_policy(i) = from->rules[i];
    int32 next = 0;
    for (int32 i = 0; i < from->count; i++) {
        SlaPolicy* policy = block->policy(i);
        *policy = from->policies[i];
        // sorted by the policy's id, too
        policy->first_shift = next;
        while (next < availability->policy_shift_count &&
               availability->policy_shifts[next].policy == policy->id) {
            *block->policy_shift(next) = availability->policy_shifts[next];
            next++;
        }
        policy->shift_count = next - policy->first_shift;
    }
}

// --- in a block ---

static SlaPolicy* find_policy(TenantBlock* block, int32 id) {
    int32 low = 0, high = block->policy_count - 1;
    while (low <= high) {
        int32 middle = low + (high - low) / 2;
        SlaPolicy* policy = block->policy(middle);
        if (policy->id == id)
            return policy;
        if (policy->id < id)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return NULL;
}

static int32 policy_of_rule(TenantBlock* block, int64 rule) {
    int32 low = 0, high = block->rule_policy_count - 1;
    while (low <= high) {
        int32 middle = low + (high - low) / 2;
        const RulePolicy* found = block->rule_policy(middle);
        if (found->rule == rule)
            return found->policy;
        if (found->rule < rule)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return 0;
}

int32 sla_policy_for(TenantBlock* block, const PickRequest* request, int32 rep, int32 pool) {
    if (block->policy_count == 0)
        return 0;
    int32 of_pool = pool >= 0 ? block->pool(pool)->sla : 0;
    if (request->pool_bound && of_pool != 0)
        return of_pool;
    int32 of_rule =
        request->sla_rule != 0 ? policy_of_rule(block, request->sla_rule) : request->sla;
    if (of_rule != 0)
        return of_rule;
    if (block->rep(rep)->sla != 0)
        return block->rep(rep)->sla;
    return of_pool != 0 ? of_pool : request->table_sla;
}

// The hours that count; NULL: all do.
static const ShiftState* hours_of(TenantBlock* block, const SlaPolicy* policy, int32 rep) {
    const RepState* r = block->rep(rep);
    if (!policy->business_time)
        return NULL;
    if (r->shift >= 0)
        return block->shift(r->shift);
    for (int32 i = 0; i < policy->shift_count; i++) {
        const PolicyShift* shift = block->policy_shift(policy->first_shift + i);
        if (shift->zone < 0 || shift->zone == r->zone)
            return block->shift(shift->shift);
    }
    return NULL;
}

void sla_start(TenantBlock* block, int32 rep, TimestampTz at, Pick* pick) {
    const SlaPolicy* policy = find_policy(block, pick->sla);
    if (policy == NULL) {
        pick->sla = 0;
        return;
    }
    const ShiftState* hours = hours_of(block, policy, rep);
    if (hours == NULL) {
        pick->due_at = at + policy->first_touch;
        pick->next_step_at = at + policy->first_step;
        return;
    }
    const core::Window* windows = block->window(hours->first_window);
    pick->due_at = core::add_open_time(windows, hours->window_count, at, policy->first_touch);
    pick->next_step_at =
        policy->first_step == policy->first_touch
            ? pick->due_at
            : core::add_open_time(windows, hours->window_count, at, policy->first_step);
}

// --- for the record ---

void sla_record(const Pick* pick, RecordRow* row) {
    if (pick->sla == 0)
        return;
    row->sla = pick->sla;
    row->due_at = pick->due_at;
    row->next_step_at = pick->next_step_at;
    if (row->due_at == DT_NOEND)
        sla_far(row);
}
