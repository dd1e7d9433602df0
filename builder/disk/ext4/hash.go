package ext4

import (
	"encoding/binary"
	"math/bits"
)

// A nameHash orders the names of a hashed directory: by major, which the index
// holds, then by minor.
type nameHash struct{ major, minor uint32 }

// hashName is the half MD4 of a name over unsigned bytes, see ext4fs_dirhash in
// fs/ext4/hash.c.
func hashName(name string, seed [4]uint32) nameHash {
	buf := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if seed != ([4]uint32{}) {
		buf = seed
	}
	for rest := name; ; rest = rest[32:] {
		in := hashInput(rest)
		halfMD4(&buf, &in)
		if len(rest) <= 32 {
			break
		}
	}
	major := buf[1] &^ 1
	if major == 0xfffffffe { // kept for the end of a directory
		major = 0xfffffffc
	}
	return nameHash{major, buf[2]}
}

// hashInput packs up to 32 bytes of a name in words, most significant byte
// first, filled up with the number of bytes that are left of it.
func hashInput(s string) (in [8]uint32) {
	pad := uint32(len(s)) | uint32(len(s))<<8
	pad |= pad << 16
	for i := range in {
		v := pad
		for j := 4 * i; j < 4*i+4 && j < len(s); j++ {
			v = v<<8 | uint32(s[j])
		}
		in[i] = v
	}
	return in
}

func halfMD4(buf *[4]uint32, in *[8]uint32) {
	a, b, c, d := buf[0], buf[1], buf[2], buf[3]
	round := func(f func(x, y, z uint32) uint32, k uint32, order [8]int, shift [4]int) {
		for i := 0; i < 8; i += 4 {
			a = bits.RotateLeft32(a+f(b, c, d)+in[order[i]]+k, shift[0])
			d = bits.RotateLeft32(d+f(a, b, c)+in[order[i+1]]+k, shift[1])
			c = bits.RotateLeft32(c+f(d, a, b)+in[order[i+2]]+k, shift[2])
			b = bits.RotateLeft32(b+f(c, d, a)+in[order[i+3]]+k, shift[3])
		}
	}
	round(func(x, y, z uint32) uint32 { return z ^ x&(y^z) }, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19})
	round(func(x, y, z uint32) uint32 { return x&y + (x^y)&z }, 0x5a827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13})
	round(func(x, y, z uint32) uint32 { return x ^ y ^ z }, 0x6ed9eba1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15})
	buf[0] += a
	buf[1] += b
	buf[2] += c
	buf[3] += d
}

func seedWords(seed [16]byte) (w [4]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(seed[4*i:])
	}
	return w
}
