package provision

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decodeText makes of a file, as editors on any system write it, text in UTF-8
// with line feeds. It understands byte order marks, UTF-16 (Notepad's
// "Unicode") and all three ends of lines.
func decodeText(data []byte) (string, *Problem) {
	var text string
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		text = decodeUTF16(data[2:], binary.LittleEndian)
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		text = decodeUTF16(data[2:], binary.BigEndian)
	case len(data) >= 4 && len(data)%2 == 0 && data[0] != 0 && data[1] == 0:
		// Without a mark: an ASCII character never has a zero after it otherwise.
		text = decodeUTF16(data, binary.LittleEndian)
	default:
		text = string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	line, column := 1, 1
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			return "", &Problem{line, column, "this is not text in UTF-8; save the file as UTF-8"}
		case r == '\n':
			line, column = line+1, 1
			continue
		case r < ' ' && r != '\t' || r == 0x7f:
			return "", &Problem{line, column, fmt.Sprintf("there is a control character (%U); save the file as plain text", r)}
		}
		column++
	}
	return text, nil
}

// decodeUTF16 leaves half a character out.
func decodeUTF16(data []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return string(utf16.Decode(units))
}

// line is one line of a file that means something.
type line struct {
	number int
	column int // where text begins, in characters
	text   string
}

// meaningfulLines gives the lines that are neither blank nor comments, without
// blanks around them. A comment begins with one of marks.
func meaningfulLines(text, marks string) (lines []line) {
	number := 0
	for raw := range strings.SplitSeq(text, "\n") {
		number++
		trimmed := strings.TrimSpace(raw)
		if trimmed == "" || strings.ContainsRune(marks, rune(trimmed[0])) {
			continue
		}
		before, _, _ := strings.Cut(raw, trimmed)
		lines = append(lines, line{number, 1 + utf8.RuneCountInString(before), trimmed})
	}
	return lines
}

// problem is one about the line, at the byte offset within its text.
func (l line) problem(offset int, format string, args ...any) Problem {
	offset = min(offset, len(l.text))
	return Problem{l.number, l.column + utf8.RuneCountInString(l.text[:offset]), fmt.Sprintf(format, args...)}
}

// keyValue takes a line "key = value" apart; offset is where the value begins.
func (l line) keyValue() (key, value string, offset int, ok bool) {
	key, value, ok = strings.Cut(l.text, "=")
	offset = len(l.text) - len(strings.TrimLeft(value, " \t"))
	return strings.TrimSpace(key), strings.TrimSpace(value), offset, ok
}

// unquote takes matching quotes away.
func unquote(value string) string {
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		return value[1 : len(value)-1]
	}
	return value
}
