package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCmd prints a script made of the command tree.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints the script: source <(muster completion bash).
func (c *completionCmd) Run(s streams, k *kong.Kong) error {
	var nodes []completed
	walk(k.Model.Node, "muster", nil, &nodes)
	switch c.Shell {
	case "fish":
		printFish(s.Out, nodes)
	case "zsh":
		fmt.Fprintln(s.Out, "autoload -U +X bashcompinit && bashcompinit")
		printBash(s.Out, nodes)
	default:
		printBash(s.Out, nodes)
	}
	return nil
}

// completed is one command: its words from the first and what can follow.
type completed struct {
	path  string
	verbs []*kong.Node
	flags []*kong.Flag // its own and those of the commands before it
}

func walk(n *kong.Node, path string, flags []*kong.Flag, out *[]completed) {
	flags = append(flags[:len(flags):len(flags)], n.Flags...)
	c := completed{path: path}
	for _, f := range flags {
		if !f.Hidden {
			c.flags = append(c.flags, f)
		}
	}
	for _, child := range n.Children {
		if !child.Hidden && child.Type == kong.CommandNode {
			c.verbs = append(c.verbs, child)
		}
	}
	*out = append(*out, c)
	for _, verb := range c.verbs {
		walk(verb, path+" "+verb.Name, flags, out)
	}
}

func printBash(w io.Writer, nodes []completed) {
	fmt.Fprint(w, "_muster() {\n  local i path=muster words=\n  for ((i = 1; i < COMP_CWORD; i++)); do\n    case \"$path ${COMP_WORDS[i]}\" in\n")
	for _, n := range nodes[1:] {
		fmt.Fprintf(w, "      %q) path=%q ;;\n", n.path, n.path)
	}
	fmt.Fprint(w, "    esac\n  done\n  case \"$path\" in\n")
	for _, n := range nodes {
		var words []string
		for _, v := range n.verbs {
			words = append(words, v.Name)
		}
		for _, f := range n.flags {
			words = append(words, "--"+f.Name)
		}
		fmt.Fprintf(w, "    %q) words=%q ;;\n", n.path, strings.Join(words, " "))
	}
	fmt.Fprint(w, "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F _muster muster\n")
}

func printFish(w io.Writer, nodes []completed) {
	fmt.Fprint(w, "function __muster_path\n  set -l path muster\n  for word in (commandline -opc)[2..-1]\n    switch \"$path $word\"\n      case")
	for _, n := range nodes[1:] {
		fmt.Fprintf(w, " '%s'", n.path)
	}
	fmt.Fprint(w, "\n        set path \"$path $word\"\n    end\n  end\n  echo $path\nend\n")
	for _, n := range nodes {
		for _, v := range n.verbs {
			fmt.Fprintf(w, "complete -c muster -f -n 'test (__muster_path) = \"%s\"' -a %s -d %s\n", n.path, v.Name, fishWord(v.Help))
		}
		for _, f := range n.flags {
			fmt.Fprintf(w, "complete -c muster -n 'test (__muster_path) = \"%s\"' -l %s -d %s\n", n.path, f.Name, fishWord(f.Help))
		}
	}
}

func fishWord(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
