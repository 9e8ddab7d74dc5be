package scaledjpeg

import "encoding/binary"

// A huffman is a table of codes (T.81, annex C), made for looking up: most codes
// are short, and found with their first lookupBits bits.
type huffman struct {
	// lookup gives, for the next bits, length<<8 | symbol; 0 where the code
	// is longer.
	lookup [1 << lookupBits]uint16
	// whole gives, where code and value fit into the next bits together,
	// value<<8 | run<<4 | length of both; 0 elsewhere. For AC tables.
	whole [1 << lookupBits]int16
	// For longer codes: the end of the codes of each length, left-aligned in
	// 16 bits, and what to add to a code for the index of its symbol.
	end     [18]int32
	offset  [17]int32
	symbols [256]byte
}

const lookupBits = 9

func newHuffman(counts, symbols []byte) (*huffman, error) {
	t := &huffman{}
	copy(t.symbols[:], symbols)
	code, index := int32(0), int32(0)
	for length := int32(1); length <= 16; length++ {
		t.offset[length] = index - code
		for range counts[length-1] {
			if code >= 1<<length {
				return nil, damaged("a Huffman table has too many codes")
			}
			if length <= lookupBits {
				first := code << (lookupBits - length)
				for i := range int32(1) << (lookupBits - length) {
					t.lookup[first+i] = uint16(length)<<8 | uint16(symbols[index])
				}
			}
			code++
			index++
		}
		t.end[length] = code << (16 - length)
		code <<= 1
	}
	t.end[17] = 1 << 30
	for bits := range t.whole {
		length, symbol := int(t.lookup[bits]>>8), int(t.lookup[bits]&0xff)
		run, size := symbol>>4, symbol&15
		if length == 0 || size == 0 || length+size > lookupBits {
			continue
		}
		value := extend(uint64(bits>>(lookupBits-length-size))&(1<<size-1), size)
		if value >= -128 && value <= 127 {
			t.whole[bits] = int16(value)<<8 | int16(run)<<4 | int16(length+size)
		}
	}
	return t, nil
}

// extend makes a signed value of its bits (T.81, F.2.2.1).
func extend(bits uint64, size int) int32 {
	value := int32(bits)
	if size > 0 && value < 1<<(size-1) {
		value += -1<<size + 1
	}
	return value
}

// A bitReader reads the entropy-coded data, in which a byte ff is followed by a
// byte 00 that is to be skipped (T.81, B.1.1.5).
type bitReader struct {
	data []byte
	at   int
	// next has the next count bits at its top; the last padding ones of them
	// are zeros made up after the end of the data.
	next           uint64
	count, padding int
}

// fill makes sure that there are 32 bits or more.
func (b *bitReader) fill() {
	if b.count <= 32 && b.at+4 <= len(b.data) {
		four := binary.BigEndian.Uint32(b.data[b.at:])
		// None of the bytes is ff when none of the inverse is 0.
		if inverse := ^four; (inverse-0x01010101)&^inverse&0x80808080 == 0 {
			b.next |= uint64(four) << (32 - b.count)
			b.count += 32
			b.at += 4
			return
		}
	}
	for b.count <= 56 {
		value := byte(0)
		switch {
		case b.at < len(b.data) && b.data[b.at] != 0xff:
			value = b.data[b.at]
			b.at++
		case b.at+1 < len(b.data) && b.data[b.at+1] == 0:
			value = 0xff
			b.at += 2
		default: // a marker, or the end of the file
			b.padding += 8
		}
		b.next |= uint64(value) << (56 - b.count)
		b.count += 8
	}
}

// exhausted says whether bits were used that are not in the data.
func (b *bitReader) exhausted() bool { return b.padding > b.count }

// restart goes on after the given restart marker, which has to be next.
func (b *bitReader) restart(marker byte) bool {
	for b.at+1 < len(b.data) && b.data[b.at] == 0xff && b.data[b.at+1] == 0xff {
		b.at++
	}
	if b.exhausted() || b.at+1 >= len(b.data) || b.data[b.at] != 0xff || b.data[b.at+1] != marker {
		return false
	}
	*b = bitReader{data: b.data, at: b.at + 2}
	return true
}

// take removes and returns the next size bits, at most 16.
func (b *bitReader) take(size int) uint64 {
	bits := b.next >> 1 >> (63 - size)
	b.next <<= size
	b.count -= size
	return bits
}

// symbol decodes one code. There have to be 16 bits. It returns −1 where no code
// is.
func (b *bitReader) symbol(t *huffman) int {
	if found := t.lookup[b.next>>(64-lookupBits)]; found != 0 {
		length := int(found >> 8)
		b.next <<= length
		b.count -= length
		return int(found & 0xff)
	}
	code := int32(b.next >> 48)
	length := lookupBits + 1
	for code >= t.end[length] {
		length++
	}
	if length > 16 {
		return -1
	}
	index := code>>(16-length) + t.offset[length]
	b.next <<= length
	b.count -= length
	return int(t.symbols[index&0xff])
}

// zigzag gives the place of each coefficient in its block (T.81, figure A.6).
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// decodeBlock decodes and dequantises the coefficients of one block (T.81, F.2.2)
// and returns the index, in zigzag order, of the last that is not zero.
func (c *component) decodeBlock(b *bitReader, quant *[64]int32, block *[64]int32) (last int, ok bool) {
	*block = [64]int32{}
	if b.count < 32 {
		b.fill()
	}
	size := b.symbol(c.dc)
	if size < 0 || size > 11 {
		return 0, false
	}
	c.prediction += extend(b.take(size), size)
	block[0] = c.prediction * quant[0]
	for k := 1; k < 64; {
		if b.count < 32 {
			b.fill()
		}
		if whole := c.ac.whole[b.next>>(64-lookupBits)]; whole != 0 {
			k += int(whole>>4) & 15
			if k > 63 {
				return 0, false
			}
			length := int(whole & 15)
			b.next <<= length
			b.count -= length
			block[zigzag[k]&63] = int32(whole>>8) * quant[k]
			last = k
			k++
			continue
		}
		symbol := b.symbol(c.ac)
		if symbol < 0 {
			return 0, false
		}
		run, size := symbol>>4, symbol&15
		if size == 0 {
			if run != 15 { // end of block
				break
			}
			k += 16
			continue
		}
		k += run
		if k > 63 {
			return 0, false
		}
		block[zigzag[k]&63] = extend(b.take(size), size) * quant[k]
		last = k
		k++
	}
	return last, true
}
