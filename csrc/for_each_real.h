/* Include TEMPLATE once per real type; see real.h. */
#define real float
#include TEMPLATE
#undef real
#define real double
#include TEMPLATE
#undef real
#undef TEMPLATE
