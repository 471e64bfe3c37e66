// Catching the server's errors; see attempt.h.
#include "attempt.h"

extern "C" {
#include "mb/pg_wchar.h"
}

ErrorData* attempt(void (*body)(void*), void* argument) {
    MemoryContext context = CurrentMemoryContext;
    ErrorData* volatile error = NULL;

    PG_TRY();
    { body(argument); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
    }
    PG_END_TRY();
    return error;
}

ErrorData* attempt_undoable(void (*body)(void*), void* argument) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;

    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    ErrorData* error = attempt(body, argument);
    if (error == NULL)
        ReleaseCurrentSubTransaction();
    else
        RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return error;
}

ErrorData* attempt_apart(void (*body)(void*), void* argument) {
    ErrorData* error = attempt_undoable(body, argument);
    if (error != NULL && error_must_pass(error))
        ReThrowError(error);
    return error;
}

bool error_must_pass(const ErrorData* error) {
    switch (ERRCODE_TO_CATEGORY(error->sqlerrcode)) {
    case ERRCODE_TRANSACTION_ROLLBACK:
    case ERRCODE_INSUFFICIENT_RESOURCES:
    case ERRCODE_OPERATOR_INTERVENTION:
        return true;
    default:
        return false;
    }
}

void message_copy(char* to, Size room, const char* message) {
    int length =
        pg_mbcliplen(message, static_cast<int>(strlen(message)), static_cast<int>(room) - 1);
    memcpy(to, message, length);
    to[length] = '\0';
}
