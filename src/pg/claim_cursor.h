// Claim cursors: in shared memory, per queue (a pool's, or its shark tank), the next leads to be
// claimed. Sessions that claim at the same time are handed different ones, so that they do not meet
// at the head of the queue.
//
// A cursor is a hint: whoever is handed a row looks at it itself, and who finds none here reads the
// queue (claim_search.cpp). It is filled from the queue's index, going on after what was read last.
// It begins anew at the front when
//   - a transaction that was handed rows, or has read them, rolled back,
//   - a lead came to a place before the end of what was read,
//   - a second has passed: rows that somebody held come back, and what nobody tells of (prepared
//     transactions, replicated rows) is seen.
//
// Locks: the directory's, for which queue has which cursor, before that of a cursor; both innermost
// and never held over anything that raises, allocates or waits.
#pragma once

#include "leadroute.h"

#include "shared.h"

struct ClaimQueue {
    TenantKey key;
    int32 pool;
    bool tank;
};

// A place in a queue, as in its index.
constexpr int kPlaceId = 64;
struct ClaimPlace {
    int32 place; // leadroute._place()
    double minus_score;
    TimestampTz since;
    char lead_id[kPlaceId]; // empty: too long for here
};
int compare_places(const ClaimPlace* a, const ClaimPlace* b); // but for the lead's id

constexpr int kClaimEntries = 256;

// Rows read from a queue's index.
struct ClaimRows {
    int count;
    bool at_end; // there are no more
    ItemPointerData row[kClaimEntries];
    ClaimPlace last; // of the last one
};

// One session's way along a cursor, for one claim.
struct ClaimWalk {
    const ClaimQueue* queue;
    TimestampTz now;
    bool any_order; // any row will do rather than the first
    int cursor;     // -1: none
    uint64 layout;  // that the positions are of
    int next;       // position
    int held;       // position of the row handed out, -1: none
    bool empty;     // the queue was when it was read last, and nobody told of a lead since
    bool can_read;  // the caller has opened what it reads from; others wait while it does
    bool stopped;   // for that to be done
};

// Reads rows of the queue from the front, or after a place.
typedef void (*ClaimReader)(void* context, const ClaimPlace* after, int most, ClaimRows* rows);

Size claim_cursors_size(void);
void claim_cursors_request(void); // of the locks
void claim_cursors_startup(void);
// A tenant left shared memory. No error.
void claim_cursors_drop(const TenantKey* key);

// Begins a walk; `read` is called, with no lock held, when the cursor wants rows. False: there is
// no cursor for the queue, or it does not know what this transaction has put there.
bool claim_walk_start(ClaimWalk* walk, const ClaimQueue* queue, TimestampTz now);
// The next row; false: no more, or the walk is `stopped` until it can read. May wait, which can be
// cancelled, for another session that reads.
bool claim_walk_next(ClaimWalk* walk, ClaimReader read, void* context, ItemPointer row);
// The row handed out last is not for this one, but may be for others.
void claim_walk_put_back(ClaimWalk* walk);

// Moves on whenever a lead has come to the queue, and when what was taken from it was rolled back:
// until then, and for a second, leads that were passed over need not be looked at again. False:
// nobody tells, there being no cursor, or this transaction has put leads there.
bool claim_cursor_told(const ClaimQueue* queue, uint64* told);

// A lead has come to a queue, or to another place in it: told at commit.
void claim_cursor_arrived(const ClaimQueue* queue, const ClaimPlace* place);
bool claim_cursors_in_use(void);

// The transaction's end; nothing here raises or allocates.
void claim_cursors_commit(void);
void claim_cursors_abort(void); // also of a subtransaction
void claim_cursors_forget(void);
