package policies

import (
	"crypto/rsa"
	"math/big"

	"github.com/titanous/rocacheck"
)

const (
	minExponent = 1<<16 + 1
	maxExponent = 1<<31 - 1 // crypto/rsa verifies with none larger

	smallPrimeBound = 1000

	// fermatRounds is the customary bound of public authorities: it finds primes
	// closer than chance would ever put them.
	fermatRounds = 100

	// squareModulus is 2⁴·3²·5·7; one in 26 numbers is a square by it.
	squareModulus = 5040
)

var (
	smallPrimes = productOfPrimes(smallPrimeBound)
	squares     = squareResidues()
)

// checkRSA refuses what INV-P5 names, the cheapest first. The key's size is already
// known to be one of ours, which bounds the work.
func checkRSA(k *rsa.PublicKey) error {
	switch {
	case k.E < minExponent || k.E > maxExponent || k.E%2 == 0:
		return refuse("key-exponent", "the RSA exponent is not an odd number between 65537 and 2147483647")
	case new(big.Int).GCD(nil, nil, smallPrimes, k.N).BitLen() > 1:
		return refuse("key-small-factor", "the RSA modulus has a small factor")
	case rocacheck.IsWeak(k):
		return refuse("key-roca", "the RSA key comes from a generator with a known weakness (CVE-2017-15361)")
	case closePrimes(k.N):
		return refuse("key-close-primes", "the primes of the RSA key are too close to each other")
	}
	return nil
}

// closePrimes tries Fermat's factorization: n = a²-b² with a near √n, for n odd.
func closePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	b2 := new(big.Int).Mul(a, a)
	if b2.Cmp(n) < 0 {
		a.Add(a, big.NewInt(1))
		b2.Mul(a, a)
	}
	b2.Sub(b2, n)
	two := big.NewInt(2)
	step := new(big.Int).Lsh(a, 1) // (a+1)² - a² = 2a+1
	step.Add(step, big.NewInt(1))
	for range fermatRounds {
		if isSquare(b2) {
			return true
		}
		b2.Add(b2, step)
		step.Add(step, two)
	}
	return false
}

func isSquare(x *big.Int) bool {
	var r big.Int
	if !squares[r.Mod(x, big.NewInt(squareModulus)).Int64()] {
		return false // spares the root, which is the costly part
	}
	r.Sqrt(x)
	return r.Mul(&r, &r).Cmp(x) == 0
}

func squareResidues() (set [squareModulus]bool) {
	for i := range squareModulus {
		set[i*i%squareModulus] = true
	}
	return set
}

func productOfPrimes(below int64) *big.Int {
	product := big.NewInt(1)
	for i := int64(2); i < below; i++ {
		if p := big.NewInt(i); p.ProbablyPrime(0) { // exact for small numbers
			product.Mul(product, p)
		}
	}
	return product
}
