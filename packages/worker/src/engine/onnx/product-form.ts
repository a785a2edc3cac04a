/**
 * How products with 8-bit weights are computed: by `MatMulNBits`, which is everywhere, or by our own operator (docs/adr/0025), where
 * its library is there. A graph is built for one of them.
 */
export type ProductForm = 'standard' | 'operator'
