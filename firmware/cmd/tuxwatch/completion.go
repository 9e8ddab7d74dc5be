package main

import (
	"slices"

	"github.com/spf13/cobra"
)

func newCompletionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the script that completes tuxwatch's arguments in a shell",
		Long: `Print the script that completes tuxwatch's arguments in a shell.

  bash   source <(tuxwatch completion bash)
         to keep it: tuxwatch completion bash > /etc/bash_completion.d/tuxwatch
  zsh    tuxwatch completion zsh > "${fpath[1]}/_tuxwatch"
  fish   tuxwatch completion fish > ~/.config/fish/completions/tuxwatch.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains([]string{"bash", "zsh", "fish"}, args[0]) {
				return wrongUse("tuxwatch completion needs the name of a shell: bash, zsh or fish")
			}
			return nil
		},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return root.GenBashCompletionV2(out, true)
		},
	}
}
