#!/bin/sh
# A scripted program: links to this file do what lies beside them as <name>.body. Written once and never at test time, as
# a file that is open for writing in any process (a fork of another test's, say) cannot be executed.
# shellcheck source=/dev/null
. "$0.body"
