// SPDX-License-Identifier: GPL-2.0 OR MIT
#define STEP 6
#include "lab.c"
