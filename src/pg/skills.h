// Skills: what reps have, and what a lead needs of whoever receives it. A name is compared by its
// bytes; a level is a number.
#pragma once

#include "leadroute.h"

#include "block.h"

constexpr int kMaxNeeds = 16;

// One need: `name>=level`. The name is not terminated.
struct Need {
    const char* name;
    int32 length;
    double level;
};
struct Needs {
    int32 count;
    Need need[kMaxNeeds];
};

// Reads an array of texts, each `skill` or `skill>=level`; blanks around both are of no account.
// The names point into the array. Raises LR004 for what is neither. NULL elements, too: whoever
// computes a need and comes to no result does not mean that nothing is needed.
void needs_read(ArrayType* array, Needs* needs);

// A lead's needs as one block knows them.
struct SkillFilter {
    int32 count;
    int32 rarest; // of skill[]: which one the fewest reps have
    bool nobody;  // some skill is nobody's
    int32 skill[kMaxNeeds];
    double level[kMaxNeeds];
};
// Arithmetic on the block, as all that follows: may run under its lock.
void skills_find(TenantBlock* block, const Needs* needs, SkillFilter* filter);
bool rep_has_skills(TenantBlock* block, int32 rep, const SkillFilter* filter);

// The skills of a tenant's reps as configuration (skill_config.cpp), sorted by (name, rep).
struct SkillRow {
    const char* name;
    int64 rep;
    double level;
};
struct SkillRows {
    SkillRow* rows;
    int32 count;
    int32 names;      // different ones
    int32 name_bytes; // of these
};
// Reads them in the SPI connection and snapshot at hand; the rows live in `context`.
void skills_read(int64 tenant, SkillRows* out, MemoryContext context);
// Fills a formatted block that has its reps.
void skills_fill(TenantBlock* block, const SkillRows* from);
