// Reading the skills of a tenant's reps, and putting them into a block: for each skill the list of
// who has it, so that a pick looks at those alone.
#include "skills.h"

// Numbers beyond what a double holds are refused when a rep is written; a restore writes unchecked.
static const char kQuery[] =
    "SELECT s.key, r.id, LEAST(GREATEST(s.value::text::numeric, -1e300), 1e300)::float8"
    "  FROM leadroute.rep r, jsonb_each(r.skills) s"
    " WHERE r.tenant = $1 AND r.skills <> '{}' AND jsonb_typeof(s.value) = 'number'"
    " ORDER BY s.key COLLATE \"C\", r.id";

static SPIPlanPtr plan;

static void execute(int64 tenant) {
    if (plan == NULL) {
        Oid types[] = {INT8OID};
        plan = SPI_prepare(kQuery, 1, types);
        if (plan == NULL || SPI_keepplan(plan) != 0)
            elog(ERROR, "cannot prepare reading of skills: %s", SPI_result_code_string(SPI_result));
    }
    Datum values[] = {Int64GetDatum(tenant)};
    if (SPI_execute_plan(plan, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read the skills of reps");
}

void skills_read(int64 tenant, SkillRows* out, MemoryContext context) {
    execute(tenant);
    SPITupleTable* found = SPI_tuptable;
    memset(static_cast<void*>(out), 0, sizeof(*out));
    out->rows = static_cast<SkillRow*>(
        MemoryContextAllocHuge(context, sizeof(SkillRow) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++) {
        bool isnull;
        HeapTuple row = found->vals[i];
        const char* name = SPI_getvalue(row, found->tupdesc, 1);
        SkillRow* skill = &out->rows[out->count];
        if (out->count > 0 && strcmp(skill[-1].name, name) == 0) {
            skill->name = skill[-1].name;
        } else {
            skill->name = MemoryContextStrdup(context, name);
            out->names++;
            out->name_bytes += static_cast<int32>(strlen(name));
        }
        skill->rep = DatumGetInt64(SPI_getbinval(row, found->tupdesc, 2, &isnull));
        skill->level = DatumGetFloat8(SPI_getbinval(row, found->tupdesc, 3, &isnull));
        out->count++;
    }
    SPI_freetuptable(found);
}

void skills_fill(TenantBlock* block, const SkillRows* from) {
    int32 skills = 0, holders = 0;
    uint32 next_name = block->skill_names;
    for (int32 i = 0; i < from->count; i++) {
        const SkillRow* row = &from->rows[i];
        if (i == 0 || row->name != row[-1].name) {
            SkillState* skill = block->skill(skills++);
            skill->name = next_name;
            skill->length = static_cast<int32>(strlen(row->name));
            skill->first_holder = holders;
            memcpy(block->at(next_name), row->name, skill->length);
            next_name += skill->length;
        }
        // sorted by id, as the reps of the block are
        *block->holder(holders++) = {block_find_rep(block, row->rep), row->level};
        block->skill(skills - 1)->holder_count++;
    }
}
