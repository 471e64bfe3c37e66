// Making a book of rules; see rule_book.h.
#include "rule_book.h"

#include "attempt.h"
#include "placement.h"
#include "rule_shelf.h"

extern "C" {
#include "common/hashfn.h"
#include "optimizer/optimizer.h"
#include "utils/rangetypes.h"
#include "utils/typcache.h"
}

constexpr Size kCacheLine = 64;

// An author while the book is made.
struct Author {
    Oid role;
    const char* name;
    Bitmapset* columns; // by attribute number
    List* functions;
};

struct Work {
    const BookWish* wish;
    Compiler compiler; // of a set that is never run
    RuleSlots slots;
    List* authors;
    const core::Predicate** predicates;
    BookRule* rules;
    BookSource* sources;
    MemoryContext kept;

    // the texts, predicates and the like, by their offset behind the header
    char* data;
    Size used;
    Size room;
};

uint64 book_layout(Relation lead) {
    uint64 all = 0;
    TupleDesc columns = RelationGetDescr(lead);
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (column->attisdropped)
            continue;
        struct {
            NameData name;
            Oid type;
            Oid base;
            Oid collation;
            int32 modifier;
            char generated;
        } of;
        memset(static_cast<void*>(&of), 0, sizeof(of));
        namestrcpy(&of.name, NameStr(column->attname));
        of.type = column->atttypid;
        of.base = getBaseType(column->atttypid);
        of.collation = column->attcollation;
        of.modifier = column->atttypmod;
        of.generated = column->attgenerated;
        // a sum: a partition may have its columns in another order
        all += hash_bytes_extended(reinterpret_cast<const unsigned char*>(&of), sizeof(of), 0);
    }
    return all;
}

// --- analysing ---

static Author* author_of(Work* work, Oid role, const char* name) {
    ListCell* cell;
    foreach (cell, work->authors) {
        Author* author = static_cast<Author*>(lfirst(cell));
        if (author->role == role)
            return author;
    }
    Author* author = static_cast<Author*>(palloc0(sizeof(Author)));
    author->role = role;
    author->name = name;
    work->authors = lappend(work->authors, author);
    return author;
}

// Only after nothing can go wrong with the rule any more.
static void need(Work* work, const Condition* condition, const char* name) {
    Author* author = author_of(work, condition->author, name);
    int member = -1;
    while ((member = bms_next_member(condition->columns, member)) >= 0)
        author->columns =
            bms_add_member(author->columns, member + FirstLowInvalidHeapAttributeNumber);
    author->functions = list_concat_unique_oid(author->functions, condition->functions);
}

static Expr* plan(const Condition* condition) {
    AuthorScope scope;
    author_scope_begin(&scope, condition->author);
    Expr* planned = expression_planner(condition->expression);
    author_scope_end(&scope);
    return planned;
}

static void analyse(void* argument) {
    Work* work = static_cast<Work*>(argument);
    const RuleSource* source = work->compiler.source;
    BookRule* rule = &work->rules[source - work->compiler.sources];
    Condition condition = {};
    condition.lead = work->compiler.lead;
    condition.rule = source->rule->name;
    condition.text = source->condition;
    condition.author = get_role_oid(source->author, false);
    condition_parse(&condition);
    if (!rule_is_plain(&condition))
        return;
    Expr* planned = plan(&condition);
    if (contain_volatile_functions(reinterpret_cast<Node*>(planned)))
        return;
    core::Predicate* predicate = rule_analyse(planned, work->compiler.lead, &work->slots);
    MemoryContext caller = MemoryContextSwitchTo(work->kept);
    core::Predicate* kept = static_cast<core::Predicate*>(palloc(predicate->size));
    memcpy(static_cast<void*>(kept), predicate, predicate->size);
    need(work, &condition, source->author);
    work->predicates[source - work->compiler.sources] = kept;
    rule->eager = false;
    MemoryContextSwitchTo(caller);
}

// The slots and what the authors need, which may be more than is needed now.
static void take_over(Work* work) {
    const Book* older = work->wish->older;
    work->slots.count = static_cast<int>(older->slot_count);
    memcpy(static_cast<void*>(work->slots.slot), older->at<RuleSlot>(older->slots),
           sizeof(RuleSlot) * older->slot_count);
    const BookAuthor* authors = older->at<BookAuthor>(older->authors);
    for (uint32 i = 0; i < older->author_count; i++) {
        Oid role = get_role_oid(NameStr(authors[i].name), true);
        if (!OidIsValid(role))
            continue;
        Author* author = author_of(work, role, pstrdup(NameStr(authors[i].name)));
        const NameData* names = older->at<NameData>(authors[i].columns);
        for (uint32 k = 0; k < authors[i].column_count; k++) {
            AttrNumber column = get_attnum(RelationGetRelid(work->wish->lead), NameStr(names[k]));
            if (column > 0)
                author->columns = bms_add_member(author->columns, column);
        }
        const Oid* functions = older->at<Oid>(authors[i].functions);
        for (uint32 k = 0; k < authors[i].function_count; k++)
            author->functions = list_append_unique_oid(author->functions, functions[k]);
    }
}

// What the older book knows of the same condition by the same author.
static const core::Predicate* known(const Work* work, const RuleSource* source) {
    const Book* older = work->wish->older;
    int64 ordinal = older == NULL ? -1 : book_find(older, source->rule->id);
    if (ordinal < 0 || older->rule(ordinal)->eager)
        return NULL;
    const BookSource* from = older->source(ordinal);
    if (strcmp(older->at<char>(from->condition), source->condition) != 0 ||
        strcmp(older->at<char>(from->author), source->author) != 0)
        return NULL;
    return older->predicate(older->rule(ordinal));
}

static void analyse_all(Work* work) {
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute rule analysis",
                                                  ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(scratch);
    for (int i = 0; i < work->compiler.count; i++) {
        CHECK_FOR_INTERRUPTS();
        work->compiler.source = &work->compiler.sources[i];
        work->rules[i].eager = true;
        if (work->compiler.source->rule->demand != NULL ||
            !OidIsValid(get_role_oid(work->compiler.source->author, true)))
            continue;
        const core::Predicate* same = known(work, work->compiler.source);
        if (same == NULL) {
            (void)attempt_apart(analyse, work); // what is wrong is found by each session
        } else {
            work->predicates[i] = same;
            work->rules[i].eager = false;
        }
        MemoryContextReset(scratch);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(scratch);
}

// --- laying it out ---

static uint64 put(Work* work, const void* bytes, Size size) {
    Size room = MAXALIGN(size);
    if (work->used + room > work->room) {
        Size wanted = Max(work->room * 2, work->used + room);
        work->data = static_cast<char*>(repalloc_huge(work->data, wanted));
        memset(work->data + work->room, 0, wanted - work->room);
        work->room = wanted;
    }
    if (size > 0)
        memcpy(work->data + work->used, bytes, size);
    work->used += room;
    return sizeof(Book) + work->used - room;
}

static uint64 put_text(Work* work, const char* text) {
    return text == NULL ? 0 : put(work, text, strlen(text) + 1);
}

static uint64 put_datum(Work* work, Datum value) {
    return put(work, DatumGetPointer(value), VARSIZE_ANY(DatumGetPointer(value)));
}

static TimestampTz after(TimestampTz bound, bool moment_later) {
    return moment_later && !TIMESTAMP_NOT_FINITE(bound) ? bound + 1 : bound;
}

static void set_period(BookRule* rule, const RuleSource* source) {
    rule->from = DT_NOBEGIN;
    rule->until = DT_NOEND;
    if (!source->has_valid)
        return;
    RangeType* range = DatumGetRangeTypeP(source->valid);
    RangeBound lower;
    RangeBound upper;
    bool empty;
    range_deserialize(lookup_type_cache(RangeTypeGetOid(range), TYPECACHE_RANGE_INFO), range,
                      &lower, &upper, &empty);
    if (empty)
        rule->until = DT_NOBEGIN;
    if (!empty && !lower.infinite)
        rule->from = after(DatumGetTimestampTz(lower.val), !lower.inclusive);
    if (!empty && !upper.infinite)
        rule->until = after(DatumGetTimestampTz(upper.val), upper.inclusive);
}

static void put_predicate(Work* work, BookRule* rule, const core::Predicate* predicate) {
    rule->roomy = predicate->size <= sizeof(rule->room);
    if (rule->roomy)
        memcpy(rule->room, predicate, predicate->size);
    else
        rule->predicate = put(work, predicate, predicate->size);
    const core::Alternative* only = predicate->alternative(0);
    rule->undecided = predicate->alternatives == 1 && only->count == 0 && !only->exact;
}

static void put_rule(Work* work, int i) {
    const RuleSource* from = &work->compiler.sources[i];
    const RuleDemand* demand = from->rule->demand;
    BookRule* rule = &work->rules[i];
    rule->id = from->rule->id;
    rule->rep = from->rule->rep;
    rule->position = from->rule->position;
    rule->pool = from->rule->pool;
    rule->overflow_pool = from->rule->overflow_pool;
    rule->sla = from->rule->sla;
    rule->version = from->rule->version;
    rule->name = put_text(work, from->rule->name);
    rule->label = from->rule->has_label ? put_datum(work, from->rule->label) : 0;
    put_predicate(work, rule, work->predicates[i]);
    set_period(rule, from);
    BookSource* source = &work->sources[i];
    source->condition = put_text(work, from->condition);
    source->author = put_text(work, from->author);
    source->valid = from->has_valid ? put_datum(work, from->valid) : 0;
    if (demand == NULL)
        return;
    source->needs = put_text(work, demand->needs_text);
    source->territory = put_text(work, demand->territory);
    source->key = put_text(work, demand->key_text);
    source->key_author = put_text(work, demand->key_author);
    source->prefix = demand->prefix;
}

static BookAuthor put_author(Work* work, const Author* author) {
    BookAuthor made;
    memset(static_cast<void*>(&made), 0, sizeof(made));
    namestrcpy(&made.name, author->name);
    int member = -1;
    while ((member = bms_next_member(author->columns, member)) >= 0) {
        Form_pg_attribute column = TupleDescAttr(RelationGetDescr(work->compiler.lead), member - 1);
        uint64 at = put(work, &column->attname, sizeof(NameData));
        made.columns = made.column_count++ == 0 ? at : made.columns;
    }
    Oid* functions = static_cast<Oid*>(palloc(sizeof(Oid) * (list_length(author->functions) + 1)));
    ListCell* cell;
    foreach (cell, author->functions)
        functions[made.function_count++] = lfirst_oid(cell);
    made.functions = put(work, functions, sizeof(Oid) * made.function_count);
    return made;
}

// Rules that are found otherwise are in no list of the index.
static core::Predicate* nothing(void) {
    core::Predicate* none = static_cast<core::Predicate*>(palloc0(sizeof(core::Predicate)));
    none->size = sizeof(core::Predicate);
    return none;
}

static void read(Work* work) {
    RuleSet* set = static_cast<RuleSet*>(palloc0(sizeof(RuleSet)));
    set->context = work->kept = CurrentMemoryContext;
    set->lead_table = work->wish->lead_table;
    set->tenant = work->wish->tenant;
    work->compiler.set = set;
    work->compiler.kept = work->kept;
    work->compiler.lead = work->wish->lead;
    rules_read(&work->compiler, 0, work->wish->among);
    Size count = work->compiler.count + 1;
    work->rules = static_cast<BookRule*>(MemoryContextAllocExtended(
        work->kept, sizeof(BookRule) * count, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    work->sources = static_cast<BookSource*>(MemoryContextAllocExtended(
        work->kept, sizeof(BookSource) * count, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    work->predicates = static_cast<const core::Predicate**>(
        MemoryContextAllocHuge(work->kept, sizeof(void*) * count));
    core::Predicate* none = nothing();
    for (Size i = 0; i < count; i++)
        work->predicates[i] = none;
}

static int compare_ids(const void* a, const void* b) {
    int64 x = static_cast<const BookId*>(a)->id;
    int64 y = static_cast<const BookId*>(b)->id;
    return x < y ? -1 : (x > y ? 1 : 0);
}

static uint64 put_ids(Work* work) {
    Size count = work->compiler.count;
    BookId* ids = static_cast<BookId*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(BookId) * (count + 1)));
    for (Size i = 0; i < count; i++)
        ids[i] = {work->rules[i].id, static_cast<uint32>(i)};
    qsort(ids, count, sizeof(BookId), compare_ids);
    return put(work, ids, sizeof(BookId) * count);
}

static void put_all(Work* work, Book* book) {
    work->room = 8192;
    work->data = static_cast<char*>(palloc0(work->room));
    book->rule_count = static_cast<uint32>(work->compiler.count);
    // a rule begins with a cache line, where the book does
    work->used = kCacheLine - sizeof(Book) % kCacheLine;
    book->rules = put(work, work->rules, sizeof(BookRule) * book->rule_count);
    for (int i = 0; i < work->compiler.count; i++) {
        put_rule(work, i);
        book->eager_count += work->rules[i].eager ? 1 : 0;
    }
    BookAuthor* authors =
        static_cast<BookAuthor*>(palloc(sizeof(BookAuthor) * (list_length(work->authors) + 1)));
    ListCell* cell;
    foreach (cell, work->authors)
        authors[book->author_count++] = put_author(work, static_cast<const Author*>(lfirst(cell)));
    book->authors = put(work, authors, sizeof(BookAuthor) * book->author_count);
    book->slot_count = static_cast<uint32>(work->slots.count);
    book->slots = put(work, work->slots.slot, sizeof(RuleSlot) * work->slots.count);
    book->ids = put_ids(work);
    book->sources = put(work, work->sources, sizeof(BookSource) * book->rule_count);
    memcpy(work->data + book->rules - sizeof(Book), work->rules,
           sizeof(BookRule) * book->rule_count);
}

Book* book_build(const BookWish* wish, BookPlace place, void* context) {
    MemoryContext caller = CurrentMemoryContext;
    MemoryContext own =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute book", ALLOCSET_DEFAULT_SIZES);
    MemoryContextSwitchTo(own);
    Work* work = static_cast<Work*>(palloc0(sizeof(Work)));
    work->wish = wish;
    read(work);
    if (wish->older != NULL)
        take_over(work);
    analyse_all(work);
    Book head = {};
    head.layout = book_layout(wish->lead);
    put_all(work, &head);
    core::IndexBuild* build = static_cast<core::IndexBuild*>(palloc0(sizeof(core::IndexBuild)));
    build->rules = work->predicates;
    build->rule_count = head.rule_count;
    build->scratch = MemoryContextAllocHuge(own, core::index_scratch(build));
    head.index = TYPEALIGN(kCacheLine, sizeof(Book) + work->used);
    head.size = head.index + core::index_plan(build);
    MemoryContextSwitchTo(caller);
    char* made = static_cast<char*>(place(context, head.size));
    memcpy(made, &head, sizeof(head));
    memcpy(made + sizeof(head), work->data, work->used);
    memset(made + sizeof(head) + work->used, 0, head.index - sizeof(head) - work->used);
    core::index_write(build, made + head.index);
    MemoryContextDelete(own);
    return reinterpret_cast<Book*>(made);
}

int64 book_find(const Book* book, int64 id) {
    const BookId* ids = book->at<BookId>(book->ids);
    uint32 from = 0;
    uint32 until = book->rule_count;
    while (from < until) {
        uint32 middle = (from + until) / 2;
        if (ids[middle].id < id)
            from = middle + 1;
        else
            until = middle;
    }
    return from < book->rule_count && ids[from].id == id ? static_cast<int64>(ids[from].ordinal)
                                                         : -1;
}

static bool shared_book_has_many(const RuleSet* set, Relation lead) {
    int64 own[kShelfEdits];
    int count = 0;
    if (!shared_ready() || !rule_edits_own(set->tenant, own, kShelfEdits, &count))
        return false;
    ShelfKey key = {{MyDatabaseId, placement(set->lead, set->tenant), set->tenant},
                    set->lead_table};
    return shelf_has(&key, book_layout(lead), kRulesScanned);
}

bool rules_are_many(const RuleSet* set, Relation lead) {
    static SPIPlanPtr plan;
    if (shared_book_has_many(set, lead))
        return true;
    Oid types[] = {INT4OID, INT8OID};
    Datum values[] = {Int32GetDatum(set->lead_table), Int64GetDatum(set->tenant)};
    OwnerScope scope;
    owner_scope_begin(&scope);
    SPI_connect();
    if (plan == NULL) {
        plan = SPI_prepare("SELECT FROM leadroute.rule r WHERE r.tenant OPERATOR(pg_catalog.=) $2"
                           "  AND r.lead_table OPERATOR(pg_catalog.=) (SELECT t.name"
                           "    FROM leadroute.lead_table t WHERE t.id OPERATOR(pg_catalog.=) $1)"
                           "  AND r.active",
                           lengthof(types), types);
        if (plan == NULL || SPI_keepplan(plan) != 0)
            elog(ERROR, "cannot prepare the count of rules");
    }
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_plan(plan, values, NULL, true, kRulesScanned + 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot count the rules");
    bool many = SPI_processed > kRulesScanned;
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&scope);
    return many;
}
