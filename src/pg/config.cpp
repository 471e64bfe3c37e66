// Reads a tenant's configuration tables into flat rows, and lays a block out for it.
#include "availability.h"
#include "tenant.h"

static SPIPlanPtr rep_plan, pool_plan, member_plan;

static SPITupleTable* run(SPIPlanPtr* plan, const char* sql, int64 tenant) {
    if (*plan == NULL) {
        Oid types[] = {INT8OID};
        *plan = SPI_prepare(sql, 1, types);
        if (*plan == NULL || SPI_keepplan(*plan) != 0)
            elog(ERROR, "cannot prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
    }
    Datum values[] = {Int64GetDatum(tenant)};
    // read-only: runs under the snapshot that the caller pushed, which is the latest one
    if (SPI_execute_plan(*plan, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read the configuration of leadroute");
    return SPI_tuptable;
}

static Datum column(SPITupleTable* table, uint64 row, int number, bool* isnull) {
    return SPI_getbinval(table->vals[row], table->tupdesc, number, isnull);
}

static int32 cap_column(SPITupleTable* table, uint64 row, int number) {
    bool isnull;
    Datum value = column(table, row, number, &isnull);
    return isnull ? kNoCap : DatumGetInt32(value);
}

static bool bool_column(SPITupleTable* table, uint64 row, int number) {
    bool isnull;
    Datum value = column(table, row, number, &isnull);
    return !isnull && DatumGetBool(value);
}

static double degrees_column(SPITupleTable* table, uint64 row, int number) {
    bool isnull;
    Datum value = column(table, row, number, &isnull);
    return isnull ? get_float8_nan() : DatumGetFloat8(value);
}

static void read_reps(int64 tenant, Configuration* out, MemoryContext context) {
    SPITupleTable* rows =
        run(&rep_plan,
            "SELECT r.id, r.timezone, r.daily_cap, r.open_cap, r.paused, r.ref IS NOT NULL,"
            " COALESCE(r.ref ~ '^[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}$', false),"
            " COALESCE(s.id, 0) FROM leadroute.rep r LEFT JOIN leadroute.sla_policy s"
            "   ON s.tenant = r.tenant AND s.name = r.sla"
            " WHERE r.tenant = $1 ORDER BY r.id",
            tenant);
    out->rep_count = (int32)SPI_processed;
    out->reps =
        static_cast<RepRow*>(MemoryContextAllocHuge(context, sizeof(RepRow) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        RepRow* rep = &out->reps[i];
        rep->id = DatumGetInt64(column(rows, i, 1, &isnull));
        Datum zone = column(rows, i, 2, &isnull);
        rep->zone = zone_number(isnull ? "UTC" : TextDatumGetCString(zone));
        rep->cap = cap_column(rows, i, 3);
        rep->open_cap = cap_column(rows, i, 4);
        rep->paused = bool_column(rows, i, 5);
        rep->has_ref = bool_column(rows, i, 6);
        rep->ref_is_uuid = bool_column(rows, i, 7);
        rep->sla = DatumGetInt32(column(rows, i, 8, &isnull));
    }
    SPI_freetuptable(rows);
}

static core::CatchUp catch_up_of(const char* text) {
    if (strcmp(text, "full") == 0)
        return core::CatchUp::full;
    return strcmp(text, "bounded") == 0 ? core::CatchUp::bounded : core::CatchUp::none;
}

static core::Order order_of(const char* method) {
    if (strcmp(method, "least_open") == 0)
        return core::Order::least;
    if (strcmp(method, "nearest") == 0)
        return core::Order::places;
    return strcmp(method, "priority") == 0 ? core::Order::tiers : core::Order::fair;
}

static PoolMode mode_of(const char* mode) {
    if (strcmp(mode, "pull") == 0)
        return PoolMode::pull;
    return strcmp(mode, "broadcast") == 0 ? PoolMode::broadcast : PoolMode::push;
}

static void read_pools(int64 tenant, Configuration* out, MemoryContext context) {
    SPITupleTable* rows =
        run(&pool_plan,
            "SELECT p.id, COALESCE(o.id, 0), p.catch_up, COALESCE(p.catch_up_limit, 0)::float8,"
            " p.method, p.presence_required, p.method = 'value',"
            " COALESCE(p.value_since, '-infinity'), p.mode,"
            " COALESCE(extract(epoch FROM p.offer_window) * 1000000, 0)::bigint, COALESCE(s.id, 0)"
            " FROM leadroute.pool p LEFT JOIN leadroute.pool o"
            "   ON o.tenant = p.tenant AND o.name = p.overflow_pool"
            " LEFT JOIN leadroute.sla_policy s ON s.tenant = p.tenant AND s.name = p.sla"
            " WHERE p.tenant = $1 ORDER BY p.id",
            tenant);
    out->pool_count = (int32)SPI_processed;
    out->pools = static_cast<PoolRow*>(
        MemoryContextAllocHuge(context, sizeof(PoolRow) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        PoolRow* pool = &out->pools[i];
        pool->id = DatumGetInt32(column(rows, i, 1, &isnull));
        pool->overflow = DatumGetInt32(column(rows, i, 2, &isnull));
        pool->catch_up = catch_up_of(TextDatumGetCString(column(rows, i, 3, &isnull)));
        pool->catch_up_limit = DatumGetFloat8(column(rows, i, 4, &isnull));
        pool->order = order_of(TextDatumGetCString(column(rows, i, 5, &isnull)));
        pool->presence_required = bool_column(rows, i, 6);
        pool->by_value = bool_column(rows, i, 7);
        pool->value_since = DatumGetTimestampTz(column(rows, i, 8, &isnull));
        pool->mode = mode_of(TextDatumGetCString(column(rows, i, 9, &isnull)));
        pool->offer_window = DatumGetInt64(column(rows, i, 10, &isnull));
        pool->sla = DatumGetInt32(column(rows, i, 11, &isnull));
    }
    SPI_freetuptable(rows);
}

static void read_members(int64 tenant, Configuration* out, MemoryContext context) {
    SPITupleTable* rows =
        run(&member_plan,
            "SELECT p.id, m.rep, CASE p.method WHEN 'weighted' THEN m.weight::float8"
            " WHEN 'performance' THEN COALESCE(f.weight, 1) ELSE 1 END,"
            " m.daily_cap, m.paused, m.tier, r.location[0], r.location[1]"
            " FROM leadroute.pool_member m JOIN leadroute.pool p"
            "   ON p.tenant = m.tenant AND p.name = m.pool"
            // in a restore memberships may arrive before their reps
            " JOIN leadroute.rep r ON r.tenant = m.tenant AND r.id = m.rep"
            " LEFT JOIN leadroute.performance f"
            "   ON f.tenant = m.tenant AND f.pool = p.id AND f.rep = m.rep"
            " WHERE m.tenant = $1 ORDER BY p.id, m.rep",
            tenant);
    out->member_count = (int32)SPI_processed;
    out->members = static_cast<MemberRow*>(
        MemoryContextAllocHuge(context, sizeof(MemberRow) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        MemberRow* member = &out->members[i];
        member->pool = DatumGetInt32(column(rows, i, 1, &isnull));
        member->rep = DatumGetInt64(column(rows, i, 2, &isnull));
        member->weight = DatumGetFloat8(column(rows, i, 3, &isnull));
        member->cap = cap_column(rows, i, 4);
        member->lane = 0;
        member->paused = bool_column(rows, i, 5);
        member->tier = DatumGetInt32(column(rows, i, 6, &isnull));
        member->longitude = degrees_column(rows, i, 7);
        member->latitude = degrees_column(rows, i, 8);
    }
    SPI_freetuptable(rows);
}

// What tells a member's lane: its tier, or where its rep is.
struct LaneKey {
    double first;
    double second;
    int32 member;
};

// Those without a place come last.
static int compare_degrees(double x, double y) {
    if (isnan(x) || isnan(y))
        return (isnan(x) ? 1 : 0) - (isnan(y) ? 1 : 0);
    return x < y ? -1 : x > y;
}

static int compare_lanes(const void* a, const void* b) {
    const LaneKey* x = static_cast<const LaneKey*>(a);
    const LaneKey* y = static_cast<const LaneKey*>(b);
    int order = compare_degrees(x->first, y->first);
    return order != 0 ? order : compare_degrees(x->second, y->second);
}

// Sets the lanes of one pool: all its members in one; a lane per tier, the first tier first; or a
// lane per place, from south to north.
static void lay_out_lanes(PoolRow* pool, MemberRow* members, int32 count) {
    pool->lanes = 1;
    bool places = pool->order == core::Order::places;
    if (!places && pool->order != core::Order::tiers)
        return;
    LaneKey* sorted = static_cast<LaneKey*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(LaneKey) * (count + 1)));
    for (int32 i = 0; i < count; i++) {
        const MemberRow* row = &members[i];
        sorted[i] = {places ? row->latitude : row->tier, places ? row->longitude : 0, i};
    }
    qsort(sorted, count, sizeof(LaneKey), compare_lanes);
    for (int32 i = 0; i < count; i++) {
        if (i > 0 && compare_lanes(&sorted[i - 1], &sorted[i]) != 0)
            pool->lanes++;
        members[sorted[i].member].lane = pool->lanes - 1;
    }
    pfree(sorted);
}

static void set_lanes(Configuration* configuration) {
    int32 next = 0;
    for (int32 i = 0; i < configuration->pool_count; i++) {
        PoolRow* pool = &configuration->pools[i];
        int32 first = next;
        while (next < configuration->member_count && configuration->members[next].pool == pool->id)
            next++;
        lay_out_lanes(pool, &configuration->members[first], next - first);
    }
}

void configuration_read(int64 tenant, Configuration* configuration) {
    Horizon horizon = horizon_now();
    configuration_read_for(tenant, &horizon, configuration);
}

void configuration_read_for(int64 tenant, const Horizon* horizon, Configuration* configuration) {
    MemoryContext context = CurrentMemoryContext;
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    read_reps(tenant, configuration, context);
    read_pools(tenant, configuration, context);
    read_members(tenant, configuration, context);
    skills_read(tenant, &configuration->skills, context);
    sla_read(tenant, &configuration->sla, context);
    configuration->availability = availability_read(tenant, horizon, context);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    set_lanes(configuration);
}

static void fill_reps(TenantBlock* block, const Configuration* from) {
    for (int32 i = 0; i < from->rep_count; i++) {
        const RepRow* row = &from->reps[i];
        RepState* rep = block->rep(i);
        rep->id = row->id;
        rep->zone = row->zone;
        rep->cap = row->cap;
        rep->open_cap = row->open_cap;
        rep->counts_open = row->open_cap != kNoCap;
        rep->paused = row->paused;
        rep->has_ref = row->has_ref;
        rep->ref_is_uuid = row->ref_is_uuid;
        rep->sla = row->sla;
        if (row->zone >= block->zone_count)
            block->zone_count = row->zone + 1;
    }
}

// Lists the members of each rep, so that a cap that is reached in one pool parks it in all.
static void fill_memberships(TenantBlock* block) {
    for (int32 i = 0; i < block->member_count; i++)
        block->rep(block->member(i)->rep)->member_count++;
    int32 next = 0;
    for (int32 i = 0; i < block->rep_count; i++) {
        block->rep(i)->first_member = next;
        next += block->rep(i)->member_count;
        block->rep(i)->member_count = 0;
    }
    for (int32 i = 0; i < block->member_count; i++) {
        RepState* rep = block->rep(block->member(i)->rep);
        *block->member_of_rep(rep->first_member + rep->member_count++) = i;
    }
}

static void start_lanes(TenantBlock* block, PoolState* pool, const PoolRow* row,
                        const MemberRow* members, int32 count) {
    core::FairQueue queue = block->queue(pool);
    queue.reset(count, row->order, row->lanes);
    Size bytes = sizeof(int32) * row->lanes;
    int32* sizes = static_cast<int32*>(MemoryContextAllocHuge(CurrentMemoryContext, 2 * bytes));
    int32* numbers = sizes + row->lanes;
    memset(sizes, 0, 2 * bytes);
    for (int32 i = 0; i < count; i++) {
        sizes[members[i].lane]++;
        numbers[members[i].lane] = members[i].tier;
        *block->spot(pool->first_lane + members[i].lane) =
            core::spot_of(members[i].longitude, members[i].latitude);
    }
    for (int32 k = 0; k < row->lanes; k++)
        queue.set_lane(k, numbers[k], sizes[k]);
    pfree(sizes);
}

static void fill_members(TenantBlock* block, const Configuration* from) {
    int32 next = 0, lane = 0;
    for (int32 i = 0; i < block->pool_count; i++) {
        PoolState* pool = block->pool(i);
        pool->first_member = next;
        pool->first_lane = lane;
        lane += from->pools[i].lanes;
        int32 end = next;
        while (end < from->member_count && from->members[end].pool == pool->id)
            end++;
        start_lanes(block, pool, &from->pools[i], &from->members[next], end - next);
        for (; next < end; next++) {
            const MemberRow* row = &from->members[next];
            MemberState* member = block->member(next);
            member->rep = block_find_rep(block, row->rep);
            member->pool = i;
            member->cap = row->cap;
            member->paused = row->paused;
            member->reason = core::State::member_paused; // until the counts are known
            pool->parked[static_cast<int>(member->reason)]++;
            RepState* rep = block->rep(member->rep);
            rep->has_load = rep->has_load || from->pools[i].order == core::Order::least;
            rep->counts_open = rep->counts_open || rep->has_load;
            pool->without_ref += rep->has_ref ? 0 : 1;
            pool->without_uuid += rep->ref_is_uuid ? 0 : 1;
            block->queue(pool).add(next - pool->first_member, row->rep, row->weight, row->lane);
        }
    }
}

// How many reps and members the block has that the configuration lacks. Both are sorted alike.
static void count_lacking(const Configuration* from, TenantBlock* replaced, BlockRoom* room) {
    int32 next = 0;
    for (int32 i = 0; i < replaced->rep_count; i++) {
        int64 id = replaced->rep(i)->id;
        while (next < from->rep_count && from->reps[next].id < id)
            next++;
        if (next == from->rep_count || from->reps[next].id != id)
            room->aside_reps++;
    }
    next = 0;
    for (int32 i = 0; i < replaced->member_count; i++) {
        int32 pool = replaced->pool(replaced->member(i)->pool)->id;
        int64 rep = replaced->tag(i)->id;
        while (next < from->member_count &&
               (from->members[next].pool < pool ||
                (from->members[next].pool == pool && from->members[next].rep < rep)))
            next++;
        if (next == from->member_count || from->members[next].pool != pool ||
            from->members[next].rep != rep)
            room->aside_members++;
    }
}

TenantBlock* configuration_block(const Configuration* from, TenantBlock* replaced) {
    BlockRoom wanted = {};
    wanted.pools = from->pool_count;
    wanted.reps = from->rep_count;
    wanted.members = from->member_count;
    wanted.skills = from->skills.names;
    wanted.holders = from->skills.count;
    wanted.skill_name_bytes = from->skills.name_bytes;
    wanted.policies = from->sla.count;
    wanted.rule_policies = from->sla.rule_count;
    for (int32 i = 0; i < from->pool_count; i++)
        wanted.lanes += from->pools[i].lanes;
    availability_room(from->availability, &wanted);
    if (replaced != NULL) {
        wanted.aside_reps = replaced->aside_rep_count;
        wanted.aside_members = replaced->aside_member_count;
        count_lacking(from, replaced, &wanted);
    }
    Size size = block_size(&wanted);
    char* room =
        static_cast<char*>(MemoryContextAllocHuge(CurrentMemoryContext, size + kBlockAlign));
    TenantBlock* block = reinterpret_cast<TenantBlock*>(TYPEALIGN(kBlockAlign, room));
    block_format(block, &wanted);
    fill_reps(block, from);
    skills_fill(block, &from->skills);
    availability_fill(block, from->availability);
    sla_fill(block, &from->sla, from->availability);
    for (int32 i = 0; i < from->pool_count; i++) {
        PoolState* pool = block->pool(i);
        pool->id = from->pools[i].id;
        pool->catch_up = from->pools[i].catch_up;
        pool->catch_up_limit = from->pools[i].catch_up_limit;
        pool->presence_required = from->pools[i].presence_required;
        pool->by_value = from->pools[i].by_value;
        pool->mode = from->pools[i].mode;
        pool->offer_window = from->pools[i].offer_window;
        pool->value_since = from->pools[i].value_since;
        pool->sla = from->pools[i].sla;
    }
    for (int32 i = 0; i < from->pool_count; i++)
        block->pool(i)->overflow =
            from->pools[i].overflow == 0 ? -1 : block_find_pool(block, from->pools[i].overflow);
    fill_members(block, from);
    fill_memberships(block);
    return block;
}
