// Command settings writes what tuxwatch.yaml(5) says about each setting: out of
// the types that the configuration is read into and their comments, so that the
// page has every setting there is and says what the program says.
//
//	go run ./scripts/deb/settings < page-with-a-line-.\"-SETTINGS > page
package main

import (
	"bufio"
	"encoding"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/modules"
)

// marker is the line of the page that the settings take the place of.
const marker = `.\" SETTINGS`

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "settings:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	w := &writer{Writer: bufio.NewWriter(out), docs: map[reflect.Type]map[string]string{}, nested: map[reflect.Type]string{}}
	found := false
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if lines.Text() != marker {
			w.printf("%s\n", lines.Text())
			continue
		}
		found = true
		w.all()
	}
	if !found {
		return fmt.Errorf("the page has no line %s", marker)
	}
	if w.err != nil {
		return w.err
	}
	return w.Flush()
}

// writer writes mdoc(7). It keeps the first error.
type writer struct {
	*bufio.Writer
	docs   map[reflect.Type]map[string]string
	nested map[reflect.Type]string // the setting whose list has the type's fields
	err    error
}

func (w *writer) printf(format string, args ...any) { fmt.Fprintf(w, format, args...) }

// all writes every section but routes, whose form has no type of its own.
func (w *writer) all() {
	for _, kind := range modules.Kinds(nil) {
		w.printf(".Ss modules of the kind %s\n", kind.Name)
		w.text(strings.ToUpper(kind.Summary[:1]) + kind.Summary[1:] + ".")
		if kind.Settings != nil {
			w.printf(".Pp\nSettings:\n")
			w.fields(reflect.TypeOf(kind.Settings()).Elem(), "yaml")
		}
		if kind.Properties != nil {
			w.printf(".Pp\nDesired properties:\n")
			w.fields(reflect.TypeOf(kind.Properties()).Elem(), "json")
		}
	}
	c := reflect.TypeFor[config.Config]()
	for _, section := range []string{"Device", "Outbox", "Hub", "Log"} {
		field, ok := c.FieldByName(section)
		if !ok {
			w.err = fmt.Errorf("the configuration has no section %s any more", section)
			return
		}
		w.printf(".Ss %s\n", strings.ToLower(section))
		w.fields(field.Type, "yaml")
	}
}

// item is settings that share a comment.
type item struct {
	names  []string
	doc    string
	nested reflect.Type
}

// fields lists the settings of a type.
func (w *writer) fields(t reflect.Type, tag string) {
	docs := w.comments(t)
	var items []item
	var renames []string // names in Go, as comments have them, and in the file
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get(tag), ",")
		if name == "" || name == "-" {
			continue
		}
		renames = append(renames, f.Name, name)
		doc := docs[f.Name]
		if doc == "" && len(items) > 0 { // one comment for several
			last := &items[len(items)-1]
			last.names = append(last.names, name)
			continue
		}
		items = append(items, item{names: []string{name}, doc: doc, nested: structOf(f.Type)})
	}
	w.printf(".Bl -tag -width Ds\n")
	for _, i := range items {
		w.printf(".It Cm %s\n", strings.Join(i.names, " , "))
		doc := i.doc
		for at := 0; at < len(renames); at += 2 {
			doc = regexp.MustCompile(`\b`+renames[at]+`\b`).ReplaceAllStringFunc(doc, func(string) string { return renames[at+1] })
		}
		w.text(doc)
		switch before, again := w.nested[i.nested]; {
		case i.nested == nil:
		case again:
			w.printf("It has what\n.Cm %s\nhas.\n", before)
		default:
			w.nested[i.nested] = i.names[0]
			w.fields(i.nested, tag)
		}
	}
	w.printf(".El\n")
}

// structOf is the type of ours that a field has as its value or its elements,
// unless it is written as text.
func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			return nil
		}
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || !strings.HasPrefix(t.PkgPath(), "tuxwatch/") || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return nil
	}
	return t
}

// comments reads the comments of a type's fields from its source.
func (w *writer) comments(t reflect.Type) map[string]string {
	if docs := w.docs[t]; docs != nil {
		return docs
	}
	docs := map[string]string{}
	w.docs[t] = docs
	files, err := filepath.Glob(filepath.Join(strings.TrimPrefix(t.PkgPath(), "tuxwatch/"), "*.go"))
	if err != nil || len(files) == 0 {
		w.err = fmt.Errorf("%v: no source in %s; run it in the root of the checkout", t, t.PkgPath())
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			w.err = err
			return docs
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != t.Name() {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, id := range f.Names {
						docs[id.Name] = f.Doc.Text() + f.Comment.Text()
					}
				}
			}
			return false
		})
	}
	return docs
}

var (
	link        = regexp.MustCompile(`\[([A-Za-z.]+)\]`) // of a doc comment
	sentenceEnd = regexp.MustCompile(`([.:;]) ([A-Z])`)
)

// text writes running text, a sentence a line, as mdoc wants it.
func (w *writer) text(s string) {
	s = link.ReplaceAllString(strings.Join(strings.Fields(s), " "), "$1")
	s = strings.NewReplacer(`\`, `\e`, "…", "...").Replace(s)
	for line := range strings.Lines(sentenceEnd.ReplaceAllString(s, "$1\n$2")) {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		w.printf("%s\n", strings.TrimSpace(line))
	}
}
