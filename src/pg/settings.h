#pragma once

void settings_init(void); // from _PG_init
