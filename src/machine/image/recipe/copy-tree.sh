#!/bin/sh
# mmdebstrap runs this between the essential packages and all others, which so find these settings.
# $1 is the folder of the files, $2 the tree of the new system.
set -eu
umask 022
exec cp -R "$1/." "$2/"
