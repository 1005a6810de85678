package internal_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// page is one Markdown file: its prose, and the lines of its fenced blocks by language.
type page struct {
	file   string // from the root of the module
	prose  []string
	blocks []block
}

type block struct {
	language string
	lines    []string
}

func readPages(house fs.FS) (pages []page, err error) {
	err = fs.WalkDir(house, ".", func(p string, d fs.DirEntry, err error) error {
		switch base := path.Base(p); {
		case err != nil:
			return err
		case d.IsDir() && p != "." && (base[0] == '.' || slices.Contains([]string{"node_modules", "testdata", "bin"}, base)):
			return fs.SkipDir
		case d.IsDir() || path.Ext(p) != ".md":
			return nil
		}
		text, err := fs.ReadFile(house, p)
		if err != nil {
			return err
		}
		pages = append(pages, readPage(p, string(text)))
		return nil
	})
	return pages, err
}

func readPage(file, text string) page {
	p := page{file: file}
	var open *block
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{language: fence}
		case isFence:
			p.blocks, open = append(p.blocks, *open), nil
		case open != nil:
			open.lines = append(open.lines, line)
		default:
			p.prose = append(p.prose, line)
		}
	}
	return p
}

var (
	link       = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	notInSlugs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	codeSpan   = regexp.MustCompile("`([^`]+)`")
	ruleWord   = regexp.MustCompile("^\\| `([a-z0-9-]+)` \\|")
	literal    = regexp.MustCompile(`"([a-z0-9-]+)"`)
)

// slugs are the anchors that a page's headings have.
func (p page) slugs() (all []string) {
	for _, line := range p.prose {
		if title := strings.TrimLeft(line, "#"); title != line && strings.HasPrefix(title, " ") {
			words := notInSlugs.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			all = append(all, strings.ReplaceAll(words, " ", "-"))
		}
	}
	return all
}

func checkLinks(house fs.FS, pages []page) (broken []string) {
	slugs := map[string][]string{}
	for _, p := range pages {
		slugs[p.file] = p.slugs()
	}
	for _, p := range pages {
		for _, found := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(strings.Join(p.prose, "\n"), ""), -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, ":") {
				continue // another site
			}
			to := p.file
			if target != "" {
				to = path.Join(path.Dir(p.file), target)
			}
			if _, err := fs.Stat(house, to); err != nil {
				broken = append(broken, fmt.Sprintf("%s links to %s, which is not there", p.file, found[1]))
			} else if anchor != "" && path.Ext(to) == ".md" && !slices.Contains(slugs[to], anchor) {
				broken = append(broken, fmt.Sprintf("%s links to %s, and %s has no such heading", p.file, found[1], to))
			}
		}
	}
	return broken
}

// listed are the rule words that a page has a table row for.
func (p page) listed() (words []string) {
	for _, line := range p.prose {
		if m := ruleWord.FindStringSubmatch(line); m != nil {
			words = append(words, m[1])
		}
	}
	return words
}

// checkRuleWords reports words that no line of Go has. The store makes three of a noun.
func checkRuleWords(words []string, known map[string]bool) (broken []string) {
	for _, w := range words {
		said := known[w]
		for _, ending := range []string{"-not-found", "-exists", "-changed"} {
			noun, made := strings.CutSuffix(w, ending)
			said = said || made && known[noun]
		}
		if !said {
			broken = append(broken, fmt.Sprintf("no rule %q is in the source", w))
		}
	}
	return broken
}

// literals are the words that stand in quotes in Go files other than tests.
func literals(house fs.FS) (map[string]bool, error) {
	found := map[string]bool{}
	err := fs.WalkDir(house, ".", func(p string, d fs.DirEntry, err error) error {
		switch base := path.Base(p); {
		case err != nil:
			return err
		case d.IsDir() && p != "." && base[0] == '.':
			return fs.SkipDir
		case d.IsDir() || path.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(house, p)
		for _, m := range literal.FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = true
		}
		return err
	})
	return found, err
}

func TestTheDocsAreTrue(t *testing.T) {
	house := os.DirFS("..")
	pages, err := readPages(house)
	if err != nil {
		t.Fatal(err)
	}
	byFile := map[string]page{}
	for _, p := range pages {
		byFile[p.file] = p
	}
	t.Run("every relative link leads somewhere", func(t *testing.T) {
		for _, b := range checkLinks(house, pages) {
			t.Error(b)
		}
	})
	t.Run("every rule word in the reference is in the source", func(t *testing.T) {
		known, err := literals(house)
		if err != nil {
			t.Fatal(err)
		}
		words := byFile["docs/reference/problems.md"].listed()
		if len(words) < 50 {
			t.Errorf("the reference lists %d rule words: is it still a table?", len(words))
		}
		for _, b := range checkRuleWords(words, known) {
			t.Error(b)
		}
	})
	t.Run("every command in a page is a command", func(t *testing.T) {
		tree := commandTree(t, house)
		for _, p := range pages {
			for _, line := range p.commands() {
				if err := tree.check(line); err != nil {
					t.Errorf("%s: %s: %v", p.file, line, err)
				}
			}
		}
	})
	t.Run("every command is in the reference", func(t *testing.T) {
		lines := strings.Join(byFile["docs/reference/cli.md"].commands(), "\n") + "\n"
		for _, name := range commandTree(t, house).leaves("muster") {
			if !strings.Contains(lines, name+"\n") && !strings.Contains(lines, name+" ") {
				t.Errorf("docs/reference/cli.md does not have %s", name)
			}
		}
	})
}

func TestWhatIsWrongInThePagesIsSeen(t *testing.T) {
	text := strings.Join([]string{
		"# A page", "See [x](nowhere.md), [y](../README.md#no-such-heading), [z](#a-page), `[not a link](gone.md)`.",
		"| `no-such-rule` | |", "```sh", "muster frobnicate", "$ muster serve --no-such-flag", "curl x | muster version", "```",
	}, "\n")
	house := fstest.MapFS{"docs/bad.md": {Data: []byte(text)}, "README.md": {Data: []byte("# Muster")}}
	pages, err := readPages(house)
	if err != nil {
		t.Fatal(err)
	}
	if got := checkLinks(house, pages); len(got) != 2 {
		t.Errorf("links: %q", got)
	}
	bad := readPage("docs/bad.md", text)
	if got := checkRuleWords(bad.listed(), map[string]bool{"anchor": true}); len(got) != 1 {
		t.Errorf("rule words: %q", got)
	}
	if got := checkRuleWords([]string{"anchor-exists"}, map[string]bool{"anchor": true}); got != nil {
		t.Errorf("a rule made of a noun: %q", got)
	}
	tree := commandTree(t, os.DirFS(".."))
	var wrong []string
	for _, line := range bad.commands() {
		if tree.check(line) != nil {
			wrong = append(wrong, line)
		}
	}
	if want := []string{"muster frobnicate", "muster serve --no-such-flag"}; !slices.Equal(wrong, want) {
		t.Errorf("commands: %q, want %q", wrong, want)
	}
}
