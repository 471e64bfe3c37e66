// The order in which waiting leads are claimed.
#pragma once

#include "leadroute.h"

// The label's priority as an integer, as leadroute._place() gives it.
int32 place_of_label(Datum label);
