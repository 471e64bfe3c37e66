// A set of rules that finds in a book those that a lead has to be tried with.
//
// Eager rules are compiled with the set and are its first steps. Of the others, one that the
// lead's values alone decide is never compiled; the rest are compiled when a lead first comes to
// them, and only so many are kept.
#include "rule_book.h"

#include "attempt.h"

constexpr int kLazy = 1024;

// A place for a rule that was compiled when a lead came to it.
struct Lazy {
    int64 ordinal;         // -1: none
    MemoryContext context; // NULL: none
};

struct IndexedRules {
    const Book* book;
    AttrNumber columns[core::kMaxSlots];
    uint32* eager; // ordinals, one for each step
    int eager_count;
    Lazy lazy[kLazy];

    // the lead at hand
    core::Value values[core::kMaxSlots];
    core::Probe probe;
    TimestampTz now;
    int next_eager;
    int64 found; // by the probe; -1: nothing more, -2: not asked yet
    core::Verdict verdict;
    bool given;
};

// --- making the set ---

static AttrNumber column_named(Relation lead, const NameData* name) {
    TupleDesc columns = RelationGetDescr(lead);
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (!column->attisdropped && strcmp(NameStr(column->attname), NameStr(*name)) == 0)
            return column->attnum;
    }
    return InvalidAttrNumber;
}

static bool find_columns(IndexedRules* indexed, Relation lead) {
    const RuleSlot* slots = indexed->book->at<RuleSlot>(indexed->book->slots);
    for (uint32 i = 0; i < indexed->book->slot_count; i++) {
        indexed->columns[i] = column_named(lead, &slots[i].column);
        if (indexed->columns[i] == InvalidAttrNumber)
            return false;
    }
    return true;
}

// Registers what the rules need; false: somebody lacks a right.
static bool authors_allowed(RuleSet* set, const Book* book, Relation lead) {
    const BookAuthor* authors = book->at<BookAuthor>(book->authors);
    for (uint32 i = 0; i < book->author_count; i++) {
        Condition needs = {};
        needs.author = get_role_oid(NameStr(authors[i].name), true);
        if (!OidIsValid(needs.author))
            return false;
        const NameData* names = book->at<NameData>(authors[i].columns);
        for (uint32 k = 0; k < authors[i].column_count; k++) {
            AttrNumber column = column_named(lead, &names[k]);
            if (column == InvalidAttrNumber)
                return false;
            needs.columns =
                bms_add_member(needs.columns, column - FirstLowInvalidHeapAttributeNumber);
        }
        const Oid* functions = book->at<Oid>(authors[i].functions);
        for (uint32 k = 0; k < authors[i].function_count; k++)
            needs.functions = lappend_oid(needs.functions, functions[k]);
        rule_set_depend_condition(set, NameStr(authors[i].name), &needs);
    }
    return rule_set_allowed(set, lead);
}

static char* text_at(const Book* book, uint64 offset) {
    return const_cast<char*>(book->at<char>(offset));
}

static void fill_rule(const Book* book, const BookRule* from, Rule* rule) {
    memset(static_cast<void*>(rule), 0, sizeof(*rule));
    rule->id = from->id;
    rule->position = from->position;
    rule->name = text_at(book, from->name);
    rule->pool = from->pool;
    rule->rep = from->rep;
    rule->overflow_pool = from->overflow_pool;
    rule->sla = from->sla;
    rule->has_label = from->label != 0;
    rule->label = PointerGetDatum(book->at<char>(from->label));
}

static RuleDemand* demand_of(const Book* book, const BookRule* from) {
    if (from->needs == 0 && from->territory == 0)
        return NULL;
    RuleDemand* demand = static_cast<RuleDemand*>(palloc0(sizeof(RuleDemand)));
    demand->needs_text = text_at(book, from->needs);
    demand->territory = text_at(book, from->territory);
    demand->prefix = from->prefix;
    demand->key_text = text_at(book, from->key);
    demand->key_author = text_at(book, from->key_author);
    return demand;
}

// In the current memory context, which keeps it.
static RuleSource* source_of(const Book* book, const BookRule* from) {
    RuleSource* source = static_cast<RuleSource*>(palloc0(sizeof(RuleSource)));
    source->rule = static_cast<Rule*>(palloc(sizeof(Rule)));
    fill_rule(book, from, source->rule);
    source->rule->demand = demand_of(book, from);
    source->condition = text_at(book, from->condition);
    source->author = text_at(book, from->author);
    source->has_valid = from->valid != 0;
    source->valid = PointerGetDatum(book->at<char>(from->valid));
    return source;
}

static void compile_one(Compiler* compiler, RuleSource* source) {
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute rule compiler",
                                                  ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(scratch);
    compiler->source = source;
    rule_compile_source(compiler);
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(scratch);
}

static void add_eager(Compiler* compiler, uint32 ordinal) {
    RuleSet* set = compiler->set;
    IndexedRules* indexed = set->indexed;
    MemoryContext caller = MemoryContextSwitchTo(set->context);
    RuleSource* source = source_of(indexed->book, indexed->book->rule(ordinal));
    compile_one(compiler, source);
    if (source->has_valid)
        rule_add_period(source);
    if (!source->left_out && (source->broken || source->kind != CONDITION_NEVER)) {
        indexed->eager[indexed->eager_count++] = ordinal;
        set->rules[set->rule_count++] = source->rule;
        rule_add_step(set, source);
    }
    MemoryContextSwitchTo(caller);
}

static void make_room(RuleSet* set) {
    Size count = set->indexed->book->eager_count + kLazy + 1;
    set->rules = static_cast<Rule**>(MemoryContextAllocZero(set->context, sizeof(void*) * count));
    set->steps =
        static_cast<RuleStep*>(MemoryContextAllocZero(set->context, sizeof(RuleStep) * count));
    set->keys =
        static_cast<RuleKey*>(MemoryContextAllocZero(set->context, sizeof(RuleKey) * count));
    set->indexed->eager =
        static_cast<uint32*>(MemoryContextAlloc(set->context, sizeof(uint32) * count));
    for (Lazy& lazy : set->indexed->lazy)
        lazy.ordinal = -1;
}

static void reset_step(RuleSet* set, int step) {
    RuleStep* of = &set->steps[step];
    memset(static_cast<void*>(of), 0, sizeof(*of));
    of->kind = CONDITION_BARE;
    of->first = step;
    of->count = 1;
}

// The steps behind those of eager rules, one for each place and one for rules that are decided.
static void fill_steps(RuleSet* set) {
    int first = set->step_count;
    for (int i = first; i <= first + kLazy; i++)
        reset_step(set, i);
    set->rules[first + kLazy] =
        static_cast<Rule*>(MemoryContextAllocZero(set->context, sizeof(Rule)));
}

static char* kept_name(const RuleSet* set, const char* name) {
    return name == NULL ? NULL : MemoryContextStrdup(set->context, name);
}

static void keep_reserved(RuleSet* set, const ReservedColumns* from) {
    set->reserved = {kept_name(set, from->key), kept_name(set, from->owner),
                     kept_name(set, from->tenant)};
}

static void* place_in(void* context, Size size) {
    return MemoryContextAllocHuge(static_cast<MemoryContext>(context), size);
}

bool rules_index(Compiler* compiler) {
    RuleSet* set = compiler->set;
    IndexedRules* indexed =
        static_cast<IndexedRules*>(MemoryContextAllocZero(set->context, sizeof(IndexedRules)));
    indexed->book =
        book_build(compiler->lead, set->lead_table, set->tenant, place_in, set->context);
    if (!find_columns(indexed, compiler->lead) ||
        !authors_allowed(set, indexed->book, compiler->lead))
        return false;
    set->indexed = indexed;
    keep_reserved(set, &compiler->reserved);
    make_room(set);
    for (uint32 i = 0; indexed->book->eager_count > 0 && i < indexed->book->rule_count; i++)
        if (indexed->book->rule(i)->eager)
            add_eager(compiler, i);
    fill_steps(set);
    MemoryContext caller = MemoryContextSwitchTo(set->context);
    rule_set_prepare(set);
    MemoryContextSwitchTo(caller);
    return true;
}

// --- a lead ---

// Moves on to the next rule that the lead's values do not rule out.
static void seek(IndexedRules* indexed, core::Verdict* verdict) {
    while ((indexed->found = indexed->probe.next()) >= 0) {
        const BookRule* rule = indexed->book->rule(indexed->found);
        if (indexed->now < rule->from || indexed->now >= rule->until)
            continue;
        *verdict =
            core::evaluate(*indexed->book->at<core::Predicate>(rule->predicate), indexed->values);
        if (*verdict != core::Verdict::no)
            return;
    }
}

void indexed_start(RuleSet* set, TimestampTz now) {
    IndexedRules* indexed = set->indexed;
    const Book* book = indexed->book;
    MemoryContext caller = MemoryContextSwitchTo(set->econtext->ecxt_per_tuple_memory);
    rule_slots_read(book->at<RuleSlot>(book->slots), indexed->columns,
                    static_cast<int>(book->slot_count), set->econtext->ecxt_scantuple,
                    indexed->values);
    MemoryContextSwitchTo(caller);
    indexed->now = now;
    indexed->next_eager = 0;
    indexed->probe.start(book->at<void>(book->index), indexed->values);
    indexed->found = -2;
    indexed->given = false;
}

static void forget(RuleSet* set, int step, Lazy* lazy) {
    lazy->ordinal = -1;
    if (lazy->context != NULL)
        MemoryContextDelete(lazy->context);
    lazy->context = NULL;
    reset_step(set, step);
}

static void compile_lazy(RuleSet* set, const BookRule* rule, MemoryContext kept, int step) {
    Relation lead = RelationIdGetRelation(set->lead);
    if (!RelationIsValid(lead))
        elog(ERROR, "the lead relation of a rule is gone");
    Compiler compiler = {};
    compiler.set = set;
    compiler.lead = lead;
    compiler.kept = kept;
    compiler.reserved = set->reserved;
    MemoryContext caller = MemoryContextSwitchTo(kept);
    RuleSource* source = source_of(set->indexed->book, rule);
    compile_one(&compiler, source);
    RuleStep* of = &set->steps[step];
    of->context = AllocSetContextCreate(kept, "leadroute rule state", ALLOCSET_SMALL_SIZES);
    MemoryContextSwitchTo(caller);
    RelationClose(lead);
    set->rules[step] = source->rule;
    of->author = source->role;
    of->broken = source->broken;
    of->sqlstate = source->sqlstate;
    of->message = source->message;
    of->kind = source->broken ? CONDITION_BARE : source->kind;
    of->expression = source->broken ? NULL : source->expression;
}

static int lazy_step(RuleSet* set, int64 ordinal) {
    int place = static_cast<int>(ordinal % kLazy);
    int step = set->step_count + place;
    Lazy* lazy = &set->indexed->lazy[place];
    if (lazy->ordinal == ordinal)
        return step;
    forget(set, step, lazy);
    lazy->context = AllocSetContextCreate(set->context, "leadroute rule", ALLOCSET_SMALL_SIZES);
    compile_lazy(set, set->indexed->book->rule(ordinal), lazy->context, step);
    lazy->ordinal = ordinal;
    return step;
}

// A rule that the lead's values decide needs no compiling, unless it writes to the lead.
static int step_for(RuleSet* set, int64 ordinal, core::Verdict verdict) {
    const BookRule* rule = set->indexed->book->rule(ordinal);
    if (verdict != core::Verdict::yes || rule->label != 0)
        return lazy_step(set, ordinal);
    int step = set->step_count + kLazy;
    fill_rule(set->indexed->book, rule, set->rules[step]);
    return step;
}

int indexed_next(RuleSet* set) {
    IndexedRules* indexed = set->indexed;
    if (indexed->found == -2 || indexed->given)
        seek(indexed, &indexed->verdict);
    indexed->given = false;
    bool more_eager = indexed->next_eager < indexed->eager_count;
    if (more_eager && (indexed->found < 0 ||
                       static_cast<int64>(indexed->eager[indexed->next_eager]) < indexed->found))
        return indexed->next_eager++;
    if (indexed->found < 0)
        return -1;
    indexed->given = true;
    return step_for(set, indexed->found, indexed->verdict);
}
