// The shelf: books of rules (rule_book.h) that sessions share, in dynamic shared memory, and which
// rules were changed since each was made.
//
// A book is never changed. Who commits a change of rules notes their ids here, before others learn
// that the configuration has moved on; a session reads those rules anew besides the book. Once they
// are many, or anything else that a book knows has changed, the next session makes another book.
// One that is replaced goes when the last session lets go of it.
//
// Lock: the shelf's, innermost; nothing under it raises, allocates or waits.
#pragma once

#include "leadroute.h"

#include "rule_book.h"
#include "shared.h"

extern "C" {
#include "storage/dsm.h"
}

Size rule_shelf_size(void);
void rule_shelf_request(void); // of the lock
void rule_shelf_startup(void);

struct ShelfKey {
    TenantKey tenant;
    int32 lead_table;
};

constexpr int kShelfEdits = 512;

struct ShelfLoan {
    const Book* book; // NULL: there is none
    bool usable;      // false: it is too old, and good for making another one alone
    dsm_handle handle;
    uint64 version;                 // what is committed up to here is in a book made now
    int count;                      // of rules changed since the book was made
    int64 changed[2 * kShelfEdits]; // with room for as many again
};
// Lends the book, which is to be given back. It stays while it is lent.
void shelf_borrow(const ShelfKey* key, uint64 layout, ShelfLoan* loan);
void shelf_give_back(dsm_handle handle);
// Is there a usable one with more than so many rules?
bool shelf_has(const ShelfKey* key, uint64 layout, uint32 rules);
// Puts a book there that was made after shelf_borrow() had told the version, and lends it.
Book* shelf_make(const ShelfKey* key, const BookWish* wish, ShelfLoan* loan);
// One session at a time makes a book.
void shelf_lock(const ShelfKey* key);
void shelf_unlock(const ShelfKey* key);

// This transaction changes a rule; or what many rules say.
void rule_edit_note(int64 tenant, int64 rule);
void rule_edit_note_all(int64 tenant, bool all_tenants);
// Which rules of the tenant it has changed; false: more than are told apart.
bool rule_edits_own(int64 tenant, int64* rules, int room, int* count);
// At its end. No error.
void rule_edits_commit(void);
void rule_edits_forget(void);
