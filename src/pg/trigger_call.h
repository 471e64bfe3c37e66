// What a trigger function was called with.
#pragma once

#include "leadroute.h"

inline TriggerData* trigger_data(FunctionCallInfo fcinfo) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("this function can only be called as a trigger")));
    return reinterpret_cast<TriggerData*>(fcinfo->context);
}
