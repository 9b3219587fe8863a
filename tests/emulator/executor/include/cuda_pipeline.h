// The executor declares all of it before a kernel begins.
#pragma once
