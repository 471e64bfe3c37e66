// Needs of leads, and who has the skills; see skills.h.
#include "skills.h"

[[noreturn]] static void refuse(const char* element, int length, const char* problem) {
    ereport(ERROR, (errcode(ERRCODE_LR_EXPRESSION),
                    errmsg("the need \"%.*s\" is not a skill", length, element),
                    errdetail_internal("%s", problem),
                    errhint("Write a need as a skill's name, or as name>=level with a number.")));
}

static const char* skip_blanks(const char* at, const char* end) {
    while (at < end && *at == ' ')
        at++;
    return at;
}

static const char* end_before_blanks(const char* begin, const char* end) {
    while (end > begin && end[-1] == ' ')
        end--;
    return end;
}

// False: it is not a number without sign and exponent.
static bool read_level(const char* begin, const char* end, double* level) {
    char number[64];
    if (begin == end || end - begin >= static_cast<int>(sizeof(number)))
        return false;
    int points = 0, digits = 0;
    for (const char* c = begin; c < end; c++) {
        points += *c == '.' ? 1 : 0;
        digits += *c >= '0' && *c <= '9' ? 1 : 0;
    }
    if (digits == 0 || points > 1 || digits + points != end - begin)
        return false;
    memcpy(number, begin, end - begin);
    number[end - begin] = '\0';
    *level = strtod(number, NULL);
    return true;
}

static void read_need(const char* element, int length, Need* need) {
    const char* end = element + length;
    const char* sign = element;
    while (sign < end && *sign != '<' && *sign != '>' && *sign != '=')
        sign++;
    const char* begin = skip_blanks(element, sign);
    need->name = begin;
    need->length = static_cast<int32>(end_before_blanks(begin, sign) - begin);
    need->level = 1;
    if (need->length == 0)
        refuse(element, length, "It names none.");
    if (sign == end)
        return;
    if (end - sign < 2 || sign[0] != '>' || sign[1] != '=')
        refuse(element, length, "What a name may be followed by is >= and a level.");
    const char* level = skip_blanks(sign + 2, end);
    if (!read_level(level, end_before_blanks(level, end), &need->level))
        refuse(element, length, "Its level is not a number such as 2 or 2.5.");
}

void needs_read(ArrayType* array, Needs* needs) {
    needs->count = 0;
    if (ARR_NDIM(array) > 1)
        ereport(ERROR, (errcode(ERRCODE_LR_EXPRESSION),
                        errmsg("needs are a list of skills, not an array of arrays")));
    Datum* elements;
    bool* nulls;
    int count;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    if (count > kMaxNeeds)
        ereport(ERROR, (errcode(ERRCODE_LR_EXPRESSION), errmsg("%d needs are too many", count),
                        errdetail("A lead may need %d skills.", kMaxNeeds)));
    for (int i = 0; i < count; i++) {
        if (nulls[i])
            ereport(ERROR,
                    (errcode(ERRCODE_LR_EXPRESSION), errmsg("a need is NULL"),
                     errdetail("Which skill is needed cannot be told."),
                     errhint("Where a column may be NULL use COALESCE, or a condition that says "
                             "IS NOT NULL.")));
        text* element = DatumGetTextPP(elements[i]);
        read_need(VARDATA_ANY(element), static_cast<int>(VARSIZE_ANY_EXHDR(element)),
                  &needs->need[i]);
    }
    needs->count = count;
}

// --- in a block ---

static int compare_names(const char* a, int32 a_length, const char* b, int32 b_length) {
    int order = memcmp(a, b, Min(a_length, b_length));
    return order != 0 ? order : a_length - b_length;
}

static int32 find_skill(TenantBlock* block, const Need* need) {
    int32 low = 0, high = block->skill_count - 1;
    while (low <= high) {
        int32 middle = low + (high - low) / 2;
        const SkillState* skill = block->skill(middle);
        int order = compare_names(block->at(skill->name), skill->length, need->name, need->length);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

void skills_find(TenantBlock* block, const Needs* needs, SkillFilter* filter) {
    filter->count = needs->count;
    filter->rarest = 0;
    filter->nobody = false;
    for (int32 i = 0; i < needs->count; i++) {
        int32 skill = find_skill(block, &needs->need[i]);
        filter->skill[i] = skill;
        filter->level[i] = needs->need[i].level;
        if (skill < 0)
            filter->nobody = true;
        else if (!filter->nobody && block->skill(skill)->holder_count <
                                        block->skill(filter->skill[filter->rarest])->holder_count)
            filter->rarest = i;
    }
}

static bool has_skill(TenantBlock* block, int32 rep, int32 number, double level) {
    const SkillState* skill = block->skill(number);
    int32 low = skill->first_holder, high = low + skill->holder_count - 1;
    while (low <= high) {
        int32 middle = low + (high - low) / 2;
        const SkillHolder* holder = block->holder(middle);
        if (holder->rep == rep)
            return holder->level >= level;
        if (holder->rep < rep)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return false;
}

bool rep_has_skills(TenantBlock* block, int32 rep, const SkillFilter* filter) {
    if (filter->nobody)
        return false;
    for (int32 i = 0; i < filter->count; i++)
        if (!has_skill(block, rep, filter->skill[i], filter->level[i]))
            return false;
    return true;
}
