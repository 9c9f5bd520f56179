// SPDX-License-Identifier: GPL-2.0 OR MIT
#define STEP 1
#include "lab.c"
