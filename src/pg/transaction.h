// What the present transaction of this backend has done that must be kept at commit and undone at
// abort: turns charged in shared memory, configuration changed, alerts raised.
//
// Turns are remembered by subtransaction level, aggregated (core/ledger.h), so a million rows need
// no more memory than ten, and neither commit nor abort allocates. At PREPARE they move to the
// pending list of their tenant's slot under the transaction's id and are settled by whoever picks
// next once that id is no longer in progress.
#pragma once

#include "leadroute.h"

#include "shared.h"

void transaction_init(void); // registers the callbacks

// Before a charge, with no lock held: makes room, so that noting it cannot fail.
void charge_prepare(void);
// Under the slot's lock: this transaction's ticket for the tenant, given out at the first charge.
int64 charge_ticket(TenantSlot* slot, TimestampTz now);
// After the block was charged, lock released or not: remembers one turn (or what is to be returned
// at commit). pool 0: none.
// `extra` is what it costs beyond one turn.
void charge_note(TenantSlot* slot, int32 pool, int64 rep, DateADT day,
                 core::Effect effect = core::Effect::turn, int64 extra = 0);
// Gives one turn back whose row never came (it was noted at this or an outer level).
void charge_undo(TenantSlot* slot, int32 pool, int64 rep, DateADT day, int64 extra);
// Such a turn may be counted in a draft of this transaction: its next use counts the record anew.
void charge_undo_draft(void);
// What of the tenant this transaction holds.
typedef void (*OwnChargeVisitor)(void* context, const Held* held);
void charge_visit(const TenantSlot* slot, OwnChargeVisitor visit, void* context);

// Configuration of a tenant (of all) was changed by this transaction: it routes by its own copy,
// and at commit the others learn of it.
void config_changed(int64 tenant, bool all_tenants);
// The same of rules alone, and of nothing in them that a block has: the others' blocks stay.
void rules_changed(int64 tenant);
bool config_is_draft(int64 tenant);
// Moves on whenever this transaction's own view of the configuration may have changed, and at the
// end of such a transaction; what is cached under another value is stale.
uint64 config_serial(void);
// This transaction's drafts are no longer what it would route by.
void draft_outdated(void);
// leadroute.lead_table was changed: attachments are read anew at commit.
void attachments_changed(void);
// The record has rows that the tenant's memory may not count: at commit it is loaded anew. With
// by_hand SQL edited the record, which a draft of this transaction does not know either.
void record_edited(Oid assignment, int64 tenant, bool by_hand);
bool record_is_edited(const TenantKey* key);

// Alerts: a key raised by this transaction, published at commit.
bool alert_raised_here(TenantSlot* slot, uint64 key);
void alert_note(TenantSlot* slot, uint64 key);

// This transaction writes (or wrote) the checkpoint of the tenant.
void checkpoint_note(TenantSlot* slot);

// With the slot's lock held: what some transaction held is kept, or dropped.
void slot_end_held(TenantSlot* slot, const Held* held, bool kept, const ZoneDays* zones);

// Makes room for so many more pending turns of the tenant. False: shared memory is full.
bool pending_room(TenantSlot* slot, int32 count);
// Settles the pending turns of transactions that have ended meanwhile.
void pending_settle(TenantSlot* slot);
