// SPDX-License-Identifier: GPL-2.0 OR MIT
#define STEP 3
#include "lab.c"
