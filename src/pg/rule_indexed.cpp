// A set of rules that finds in a book those that a lead has to be tried with.
//
// Eager rules are compiled with the set and are its first steps. Of the others, one that the
// lead's values alone decide is never compiled; the rest are compiled when a lead first comes to
// them, and only so many are kept.
#include "rule_book.h"

#include "attempt.h"
#include "placement.h"
#include "rule_shelf.h"

constexpr int kLazy = 1024;

// A place for a rule that was compiled when a lead came to it.
struct Lazy {
    const BookRule* rule;  // NULL: none
    ExprState* state;      // of a bare condition; NULL: it is no such
    MemoryContext context; // NULL: none
};

// A book that the set finds rules in, and what it found for the lead at hand.
struct Part {
    const Book* book;
    AttrNumber columns[core::kMaxSlots];
    core::Value values[core::kMaxSlots];
    core::Probe probe;
    const BookRule* found; // NULL: nothing more
    core::Verdict verdict;
};

struct IndexedRules {
    // what sessions share; and what was changed since, which is newer
    Part parts[2];
    int part_count;
    uint32 dead[2 * kShelfEdits]; // ordinals of what was changed, sorted
    int dead_count;
    const BookRule** eager; // one for each step
    int eager_count;
    Lazy lazy[kLazy];
    dsm_handle handle; // of the book that is shared, 0: none is

    // the lead at hand
    TimestampTz now;
    int next_eager;
    Part* given; // by the latest step, to be moved on
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

static bool find_columns(Part* part, Relation lead) {
    const RuleSlot* slots = part->book->at<RuleSlot>(part->book->slots);
    for (uint32 i = 0; slots != NULL && i < part->book->slot_count; i++) {
        part->columns[i] = column_named(lead, &slots[i].column);
        if (part->columns[i] == InvalidAttrNumber)
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
        for (uint32 k = 0; names != NULL && k < authors[i].column_count; k++) {
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
    rule->version = from->version;
    rule->has_label = from->label != 0;
    rule->label = PointerGetDatum(book->at<char>(from->label));
}

static RuleDemand* demand_of(const Book* book, const BookSource* from) {
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
    const BookSource* of = book->source(from - book->rule(0));
    source->rule->demand = demand_of(book, of);
    source->condition = text_at(book, of->condition);
    source->author = text_at(book, of->author);
    source->has_valid = of->valid != 0;
    source->valid = PointerGetDatum(book->at<char>(of->valid));
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

static const Book* book_of(const IndexedRules* indexed, const BookRule* rule) {
    const Book* shared = indexed->parts[0].book;
    return rule >= shared->rule(0) && rule < shared->rule(shared->rule_count)
               ? shared
               : indexed->parts[1].book;
}

static void add_eager(Compiler* compiler, const BookRule* rule) {
    RuleSet* set = compiler->set;
    IndexedRules* indexed = set->indexed;
    MemoryContext caller = MemoryContextSwitchTo(set->context);
    RuleSource* source = source_of(book_of(indexed, rule), rule);
    compile_one(compiler, source);
    if (source->has_valid)
        rule_add_period(source);
    if (!source->left_out && (source->broken || source->kind != CONDITION_NEVER)) {
        indexed->eager[indexed->eager_count++] = rule;
        set->rules[set->rule_count++] = source->rule;
        rule_add_step(set, source);
    }
    MemoryContextSwitchTo(caller);
}

static int compare_rules(const BookRule* a, const BookRule* b) {
    if (a->position != b->position)
        return a->position < b->position ? -1 : 1;
    return a->id < b->id ? -1 : (a->id > b->id ? 1 : 0);
}

static int compare_eager(const void* a, const void* b) {
    return compare_rules(*static_cast<const BookRule* const*>(a),
                         *static_cast<const BookRule* const*>(b));
}

static int compare_ordinals(const void* a, const void* b) {
    uint32 x = *static_cast<const uint32*>(a);
    uint32 y = *static_cast<const uint32*>(b);
    return x < y ? -1 : (x > y ? 1 : 0);
}

static bool is_dead(const IndexedRules* indexed, const Part* part, uint32 ordinal) {
    return indexed->dead_count > 0 && part == &indexed->parts[0] &&
           bsearch(&ordinal, indexed->dead, indexed->dead_count, sizeof(uint32),
                   compare_ordinals) != NULL;
}

static void add_all_eager(Compiler* compiler) {
    IndexedRules* indexed = compiler->set->indexed;
    int count = 0;
    const BookRule** all = indexed->eager;
    for (int k = 0; k < indexed->part_count; k++) {
        const Book* book = indexed->parts[k].book;
        for (uint32 i = 0; book->eager_count > 0 && i < book->rule_count; i++)
            if (book->rule(i)->eager && !is_dead(indexed, &indexed->parts[k], i))
                all[count++] = book->rule(i);
    }
    qsort(all, count, sizeof(void*), compare_eager);
    // those that are compiled take the places of those that were listed
    for (int i = 0; i < count; i++)
        add_eager(compiler, all[i]);
}

static void make_room(RuleSet* set) {
    Size count = kLazy + 1;
    for (int k = 0; k < set->indexed->part_count; k++)
        count += set->indexed->parts[k].book->eager_count;
    set->rules = static_cast<Rule**>(MemoryContextAllocZero(set->context, sizeof(void*) * count));
    set->steps =
        static_cast<RuleStep*>(MemoryContextAllocZero(set->context, sizeof(RuleStep) * count));
    set->keys =
        static_cast<RuleKey*>(MemoryContextAllocZero(set->context, sizeof(RuleKey) * count));
    set->indexed->eager =
        static_cast<const BookRule**>(MemoryContextAlloc(set->context, sizeof(void*) * count));
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

static void give_back(void* argument) {
    shelf_give_back(static_cast<const IndexedRules*>(argument)->handle);
}

// The book is the set's until it is freed.
static void keep(RuleSet* set, IndexedRules* indexed, MemoryContextCallback* callback,
                 const ShelfLoan* loan) {
    indexed->parts[0].book = loan->book;
    indexed->handle = loan->handle;
    callback->func = give_back;
    callback->arg = indexed;
    MemoryContextRegisterResetCallback(set->context, callback);
}

static void make_book(const ShelfKey* key, const BookWish* wish, ShelfLoan* loan) {
    ShelfLoan* again = static_cast<ShelfLoan*>(palloc(sizeof(ShelfLoan)));
    BookWish informed = *wish;
    informed.older = loan->book;
    dsm_handle older = loan->handle;
    shelf_lock(key);
    shelf_borrow(key, book_layout(wish->lead), again);
    if (!again->usable) {
        if (again->book != NULL)
            shelf_give_back(again->handle);
        (void)shelf_make(key, &informed, again);
    }
    shelf_unlock(key);
    if (loan->book != NULL)
        shelf_give_back(older);
    *loan = *again;
    pfree(again);
}

// What this transaction has changed itself it alone may see.
static void find_book(RuleSet* set, IndexedRules* indexed, const BookWish* wish) {
    MemoryContextCallback* callback = static_cast<MemoryContextCallback*>(
        MemoryContextAlloc(set->context, sizeof(MemoryContextCallback)));
    ShelfLoan* loan = static_cast<ShelfLoan*>(palloc0(sizeof(ShelfLoan)));
    int64 own[kShelfEdits];
    int own_count = 0;
    bool few = rule_edits_own(set->tenant, own, kShelfEdits, &own_count);
    ShelfKey key = {{MyDatabaseId, placement(set->lead, set->tenant), set->tenant},
                    set->lead_table};
    if (few && shared_ready()) {
        shelf_borrow(&key, book_layout(wish->lead), loan);
        if (!loan->usable && own_count == 0)
            make_book(&key, wish, loan);
    }
    if (!loan->usable) {
        BookWish informed = *wish;
        informed.older = loan->book;
        indexed->parts[0].book = book_build(&informed, place_in, set->context);
        if (loan->book != NULL)
            shelf_give_back(loan->handle);
        return;
    }
    keep(set, indexed, callback, loan);
    memcpy(&loan->changed[loan->count], own, sizeof(int64) * own_count);
    RuleIds ids = {loan->changed, loan->count + own_count};
    if (ids.count == 0)
        return;
    BookWish changed = *wish;
    changed.among = &ids;
    indexed->parts[1].book = book_build(&changed, place_in, set->context);
    indexed->part_count = 2;
    for (int i = 0; i < ids.count; i++) {
        int64 ordinal = book_find(loan->book, ids.id[i]);
        if (ordinal >= 0)
            indexed->dead[indexed->dead_count++] = static_cast<uint32>(ordinal);
    }
    qsort(indexed->dead, indexed->dead_count, sizeof(uint32), compare_ordinals);
}

bool rules_index(Compiler* compiler) {
    RuleSet* set = compiler->set;
    IndexedRules* indexed =
        static_cast<IndexedRules*>(MemoryContextAllocZero(set->context, sizeof(IndexedRules)));
    indexed->part_count = 1;
    BookWish wish = {compiler->lead, set->lead_table, set->tenant, NULL, NULL};
    find_book(set, indexed, &wish);
    for (int i = 0; i < indexed->part_count; i++)
        if (!find_columns(&indexed->parts[i], compiler->lead) ||
            !authors_allowed(set, indexed->parts[i].book, compiler->lead))
            return false;
    set->indexed = indexed;
    keep_reserved(set, &compiler->reserved);
    make_room(set);
    add_all_eager(compiler);
    fill_steps(set);
    MemoryContext caller = MemoryContextSwitchTo(set->context);
    rule_set_prepare(set);
    MemoryContextSwitchTo(caller);
    return true;
}

// --- a lead ---

// Moves on to the next rule that the lead's values do not rule out.
static void seek(const IndexedRules* indexed, Part* part) {
    const Book* book = part->book;
    part->found = NULL;
    int64 ordinal;
    while ((ordinal = part->probe.next()) >= 0) {
        const BookRule* rule = book->rule(ordinal);
        if (!rule->undecided) // it comes from far: most rules are met once in long
            __builtin_prefetch(&rule->room[sizeof(rule->room) - 1]);
        if (indexed->now < rule->from || indexed->now >= rule->until ||
            is_dead(indexed, part, static_cast<uint32>(ordinal)))
            continue;
        part->verdict = rule->undecided ? core::Verdict::unknown
                                        : core::evaluate(*book->predicate(rule), part->values);
        if (part->verdict == core::Verdict::no)
            continue;
        part->found = rule;
        return;
    }
}

void indexed_start(RuleSet* set, TimestampTz now) {
    IndexedRules* indexed = set->indexed;
    indexed->now = now;
    indexed->next_eager = 0;
    indexed->given = NULL;
    MemoryContext caller = MemoryContextSwitchTo(set->econtext->ecxt_per_tuple_memory);
    for (int i = 0; i < indexed->part_count; i++) {
        Part* part = &indexed->parts[i];
        const Book* book = part->book;
        rule_slots_read(book->at<RuleSlot>(book->slots), part->columns,
                        static_cast<int>(book->slot_count), set->econtext->ecxt_scantuple,
                        part->values);
        part->probe.start(book->at<void>(book->index), part->values);
        seek(indexed, part);
    }
    MemoryContextSwitchTo(caller);
}

static void forget(RuleSet* set, int step, Lazy* lazy) {
    lazy->rule = NULL;
    lazy->state = NULL;
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
    RuleSource* source = source_of(book_of(set->indexed, rule), rule);
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

static int lazy_place(const BookRule* rule) {
    return static_cast<int>(static_cast<uint64>(rule->id) % kLazy);
}

static int lazy_step(RuleSet* set, const BookRule* rule) {
    int place = lazy_place(rule);
    int step = set->step_count + place;
    Lazy* lazy = &set->indexed->lazy[place];
    if (lazy->rule == rule)
        return step;
    forget(set, step, lazy);
    lazy->context = AllocSetContextCreate(set->context, "leadroute rule", ALLOCSET_SMALL_SIZES);
    compile_lazy(set, rule, lazy->context, step);
    lazy->state = rule_step_prepare(set, step);
    lazy->rule = rule;
    return step;
}

// Does the rule, met before, turn out not to hold? Without a step, as a lead may meet very many
// rules that have no key. One that holds is decided by it.
static bool passed_over(const RuleSet* set, Part* part) {
    if (part->verdict != core::Verdict::unknown)
        return false;
    const Lazy* lazy = &set->indexed->lazy[lazy_place(part->found)];
    if (lazy->rule != part->found || lazy->state == NULL)
        return false;
    bool isnull;
    Datum holds = ExecEvalExpr(lazy->state, set->econtext, &isnull);
    part->verdict = !isnull && DatumGetBool(holds) ? core::Verdict::yes : core::Verdict::no;
    return part->verdict == core::Verdict::no;
}

// A rule that the lead's values decide needs no compiling, unless it writes to the lead.
static int step_for(RuleSet* set, const Part* part) {
    if (part->verdict != core::Verdict::yes || part->found->label != 0)
        return lazy_step(set, part->found);
    int step = set->step_count + kLazy;
    fill_rule(part->book, part->found, set->rules[step]);
    return step;
}

static Part* first_part(IndexedRules* indexed) {
    Part* first = NULL;
    for (int i = 0; i < indexed->part_count; i++) {
        Part* part = &indexed->parts[i];
        if (part->found != NULL && (first == NULL || compare_rules(part->found, first->found) < 0))
            first = part;
    }
    return first;
}

static bool eager_is_next(const IndexedRules* indexed, const Part* first) {
    return indexed->next_eager < indexed->eager_count &&
           (first == NULL || compare_rules(indexed->eager[indexed->next_eager], first->found) < 0);
}

int indexed_next(RuleSet* set) {
    IndexedRules* indexed = set->indexed;
    if (indexed->given != NULL)
        seek(indexed, indexed->given);
    indexed->given = NULL;
    set->econtext->ecxt_per_query_memory = set->context;
    MemoryContext caller = MemoryContextSwitchTo(set->econtext->ecxt_per_tuple_memory);
    Part* first = first_part(indexed);
    while (first != NULL && !eager_is_next(indexed, first) && passed_over(set, first)) {
        seek(indexed, first);
        if (indexed->part_count > 1 || first->found == NULL)
            first = first_part(indexed);
    }
    MemoryContextSwitchTo(caller);
    if (eager_is_next(indexed, first))
        return indexed->next_eager++;
    if (first == NULL)
        return -1;
    indexed->given = first;
    return step_for(set, first);
}
