// SPDX-License-Identifier: GPL-2.0 OR MIT
#define STEP 4
#include "lab.c"
