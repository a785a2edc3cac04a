// Powers of 2, written once for all instruction sets as the kernels of tiles.h are.
#pragma once

namespace quiver::host {

// 2^x for x <= 0, 0 below 2^−126; NaN for NaN. The power's fraction is a Taylor polynomial in −½ … ½: at most 2e-7 off, relatively.
template <class I>
typename I::V Exp2(typename I::V x) {
  using V = typename I::V;
  // Adding it leaves the nearest integer in the lowest bits.
  const V magic = I::Set(12582912.0f);
  const V shifted = I::Add(x, magic);
  const V f = I::Sub(x, I::Sub(shifted, magic));
  V power = I::Set(1.54035304e-4f);
  power = I::Fma(power, f, I::Set(1.33335581e-3f));
  power = I::Fma(power, f, I::Set(9.61812911e-3f));
  power = I::Fma(power, f, I::Set(5.55041087e-2f));
  power = I::Fma(power, f, I::Set(2.40226507e-1f));
  power = I::Fma(power, f, I::Set(6.93147181e-1f));
  power = I::Fma(power, f, I::Set(1.0f));
  // Shifting the exponent might make a number of a NaN: x − x is one still.
  const V result = I::Add(I::TimesPowerOf2(power, shifted), I::Sub(x, x));
  return I::ZeroBelow(result, x, I::Set(-126.0f));
}

}  // namespace quiver::host
