// A book: all rules of a lead table and tenant with their index, in one piece of memory without
// pointers. Sessions read it and compile no more rules than their leads come to.
//
// A rule that depends on more than the lead's columns, built-in objects and its author's rights, or
// that asks for more than its condition, is `eager`: every session compiles it at once, as it does
// without a book, so that it breaks, mends and is reported alike.
#pragma once

#include "leadroute.h"

#include "rule_analyse.h"
#include "rule_compile.h"

// So many rules are compiled and tried one by one: finding among them is not worth its while.
constexpr int kRulesScanned = 64;

// Texts and values are at an offset from the book's start; 0: NULL.
//
// What a lead that may match looks at lies together, in as many bytes as three cache lines: most
// predicates have room in it.
struct BookRule {
    TimestampTz from;  // tried from here on
    TimestampTz until; // and before this
    int64 id;
    int64 rep;
    uint64 label;
    int32 position;
    int32 pool;
    int32 overflow_pool;
    int32 sla;
    int32 version;
    bool eager;
    bool undecided; // by the lead's values alone, whatever they are
    bool roomy;     // the predicate is in `room`
    uint64 name;
    uint64 predicate; // otherwise
    char room[112];
};
static_assert(sizeof(BookRule) == 192);

// Of the same rule, what compiling it takes.
struct BookSource {
    uint64 condition;
    uint64 author;
    uint64 valid;
    uint64 needs;
    uint64 territory;
    uint64 key;
    uint64 key_author;
    bool prefix; // of its territory
};

// Whom the rules need, and for which columns and functions.
struct BookAuthor {
    NameData name;
    uint64 columns;   // NameData each
    uint64 functions; // Oid each
    uint32 column_count;
    uint32 function_count;
};

struct BookId {
    int64 id;
    uint32 ordinal;
};

struct Book {
    uint64 size;
    uint64 layout; // of the lead relation, see book_layout()
    uint32 rule_count;
    uint32 eager_count;
    uint32 author_count;
    uint32 slot_count;
    uint64 rules;
    uint64 sources;
    uint64 authors;
    uint64 slots; // RuleSlot
    uint64 ids;   // BookId, by id
    uint64 index;

    template <typename T> const T* at(uint64 offset) const {
        return offset == 0
                   ? NULL
                   : reinterpret_cast<const T*>(reinterpret_cast<const char*>(this) + offset);
    }
    const BookRule* rule(int64 ordinal) const { return at<BookRule>(rules) + ordinal; }
    const BookSource* source(int64 ordinal) const { return at<BookSource>(sources) + ordinal; }
    const core::Predicate* predicate(const BookRule* rule) const {
        return rule->roomy ? reinterpret_cast<const core::Predicate*>(rule->room)
                           : at<core::Predicate>(rule->predicate);
    }
};

// What a book's analysis took for granted of the relation: names and types of its columns.
uint64 book_layout(Relation lead);

// Where a book goes: gives that many bytes, aligned as palloc() does.
typedef void* (*BookPlace)(void* context, Size size);
// Reads the rules as this transaction sees them now, and makes a book of them. What `older`, a book
// of the same layout or NULL, knows of a condition is not looked for again. `among`: see
// rules_read().
struct BookWish {
    Relation lead;
    int32 lead_table;
    int64 tenant;
    const Book* older;
    const RuleIds* among;
};
Book* book_build(const BookWish* wish, BookPlace place, void* context);
// The rule's ordinal; -1: it is not in the book.
int64 book_find(const Book* book, int64 id);

// Are there more active rules than are tried one by one? A book that is there tells without a look
// at them.
bool rules_are_many(const RuleSet* set, Relation lead);

// Makes compiler->set one that finds its rules in a book; false: it has to compile all of them.
bool rules_index(Compiler* compiler);
