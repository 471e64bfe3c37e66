// The one place of the library that catches the server's errors.
#pragma once

#include "leadroute.h"

// Calls body(argument). NULL: it returned; otherwise the error it raised, copied into the current
// memory context, with nothing undone yet: who calls rolls its subtransaction back, or raises an
// error of its own instead.
ErrorData* attempt(void (*body)(void*), void* argument);

// The same inside a subtransaction of its own, released or rolled back before this returns. Errors
// that must be passed on are.
ErrorData* attempt_apart(void (*body)(void*), void* argument);

// The same, with no error passed on: who calls decides.
ErrorData* attempt_undoable(void (*body)(void*), void* argument);

// Cancel, shutdown, lack of memory or disk, serialization failures and deadlocks: not a fault of
// what was running.
bool error_must_pass(const ErrorData* error);

// Copies a message as far as there is room for it, in whole characters.
void message_copy(char* to, Size room, const char* message);
