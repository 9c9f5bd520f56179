// SPDX-License-Identifier: GPL-2.0 OR MIT
#define STEP 7
#include "lab.c"
