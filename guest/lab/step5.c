// SPDX-License-Identifier: GPL-2.0 OR MIT
#define STEP 5
#include "lab.c"
