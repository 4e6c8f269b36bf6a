"""Writing: from a tree and a sorted list of changes to the new pages.

Contract: `Editor.apply` turns one bucket's tree into a new one, copy on write. Pages that change are freed and written
elsewhere, up to the root; pages that do not change stay. Nothing is written to the file here: the images of the new
pages gather in `Editor.images`. A page that the editor wrote is never read or freed again in the same transaction.

The changes of a transaction come as one ascending list, so each page is decoded, changed and encoded once however many
changes it takes. Down the tree, the list is divided among the children of a branch page; on the way up, a page becomes
a `Node`, which is merged with a sibling when deletes left it too small, and cut into pages when it is too large. The
right edge of etcd's `key` bucket is the plain case of this: one leaf takes all new revisions, and its node is cut into
full pages by two tight loops (`_leaf_end` and `_leaf_page`).

Shapes are bbolt's (node.go: splitTwo, rebalance): a node is cut only when it has more than four entries and does not
fit a page; a cut leaves at least two entries a page; a page larger than the page size takes overflow pages; a node is
merged with its left sibling (the first one: with its right) when deletes left it a quarter full (half the fill
percentage), or with one entry (leaf) or two (branch); a root branch with one child gives way to the child.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from quorate.storage.bolt.freelist import Freelist
from quorate.storage.bolt.page import (
    BRANCH,
    BUCKET_FLAG,
    ELEMENT_SIZE,
    HEADER,
    LEAF,
    MAX_DEPTH,
    PAGE_HEADER_SIZE,
    Pages,
    is_branch,
    table_of,
)
from quorate.storage.bolt.tree import NO_PAGE, Tree

MIN_FILL: Final = 0.1
MAX_FILL: Final = 1.0
DEFAULT_FILL: Final = 0.5

_MIN_ENTRIES: Final = 2  # in a page that comes from a cut


class Node:
    """A page-to-be of any size. A leaf has `values`, and `flags` when some value is a bucket; a branch `children`."""

    def __init__(self, leaf: bool) -> None:
        self.leaf = leaf
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.flags: list[int] = []  # empty: all are plain pairs
        self.children: list[int] = []
        self.shrunk = False  # entries were deleted: it may have to be merged

    def size(self) -> int:
        """Return the bytes that it would take as one page."""
        total = PAGE_HEADER_SIZE + ELEMENT_SIZE * len(self.keys) + sum(map(len, self.keys))
        return total + sum(map(len, self.values))

    def is_larger(self, limit: int) -> bool:
        """Tell whether it would take more than `limit` bytes, without counting it to its end."""
        total = PAGE_HEADER_SIZE
        for index in range(len(self.keys)):
            total += ELEMENT_SIZE + len(self.keys[index])
            if self.leaf:
                total += len(self.values[index])
            if total > limit:
                return True
        return False

    def extend(self, right: Node) -> None:
        """Take over all entries of the sibling to the right."""
        if self.flags or right.flags:
            self.flags = (self.flags or [0] * len(self.keys)) + (right.flags or [0] * len(right.keys))
        self.keys += right.keys
        self.values += right.values
        self.children += right.children


class Editor:
    """The page work of one write transaction."""

    def __init__(self, pages: Pages, freelist: Freelist, txid: int, note_born: bool) -> None:
        self.pages = pages
        self.page_size = pages.page_size
        self.freelist = freelist
        self.txid = txid
        self.note_born = note_born  # readers are open: remember which pages this transaction allocates
        self.taken: list[int] = []  # page, count, page, count, ...: all that was allocated
        self.images: list[tuple[int, bytes]] = []
        self._zeros = bytes(pages.page_size)

    def apply(
        self, tree: Tree, keys: list[bytes], values: list[bytes | None], headers: dict[bytes, int], fill: float
    ) -> Node | None:
        """Return the changed root of a bucket as a node, still to be given to `plant`; None when nothing changed.

        `keys` ascend; a value of None deletes, and deleting an absent key is no change. `headers` has the keys that are
        buckets before or after: only these may replace or delete a bucket. Raises ValueError for one that is not there.
        """
        change = _Change(self, keys, values, headers, min(max(fill, MIN_FILL), MAX_FILL))
        if tree.root == NO_PAGE:
            return change.leaf(tree.inline, tree.base, 0, len(keys))
        return change.page(tree.root, 0, len(keys), 0)

    def plant(self, node: Node, fill: float) -> int:
        """Write a root node and all levels that its cutting makes necessary; return the root page."""
        fill = min(max(fill, MIN_FILL), MAX_FILL)
        while node.leaf or len(node.keys) != 1:
            above = Node(False)
            self.cut(node, fill, above, 0)
            node = above
        return node.children[0]

    def cut(self, node: Node, fill: float, parent: Node, keep: int) -> int:
        """Write a node as one page or several, and add them to the parent's entries; return how many entries went.

        With `keep`, stop before the page that would reach into the last `keep` entries: more are to follow.
        """
        threshold = int(self.page_size * fill)
        count = len(node.keys)
        first = 0
        while True:
            if node.leaf:
                last = self._leaf_end(node, first, threshold)
            else:
                last = self._branch_end(node, first, threshold)
            if keep and last > count - keep:
                return first
            parent.keys.append(node.keys[first] if count else b"")
            parent.children.append(
                self._leaf_page(node, first, last) if node.leaf else self._branch_page(node, first, last)
            )
            if last == count:
                return count
            first = last

    def release_page(self, page: bytes, pgid: int) -> None:
        """Free a page of the old state with its overflow."""
        overflow = page[12] | page[13] << 8 | page[14] << 16 | page[15] << 24
        self.release_run(pgid, overflow + 1)

    def release_run(self, pgid: int, count: int) -> None:
        """Free pages of the old state."""
        if not self.freelist.free(self.txid, pgid, count):
            raise self.pages.fault(pgid * self.page_size, f"page {pgid} is used twice, or in use and free")

    def release_tree(self, tree: Tree) -> None:
        """Free all pages of a bucket and of the buckets in it."""
        for _, child in tree.buckets():
            self.release_tree(child)
        stack = [tree.root] if tree.root != NO_PAGE else []
        while stack:
            pgid = stack.pop()
            page = self.pages.load(pgid)
            if is_branch(page):
                stack += self.pages.children(page, pgid * self.page_size)
            self.release_page(page, pgid)

    def _allocate(self, count: int) -> int:
        pgid = self.freelist.allocate(count) or self.freelist.grow(count)
        self.taken += [pgid, count]
        if self.note_born:
            self.freelist.born[pgid] = self.txid
        return pgid

    def _leaf_end(self, node: Node, first: int, threshold: int) -> int:
        """Return where the page that starts at entry `first` ends (bbolt: node.splitTwo)."""
        keys = node.keys
        values = node.values
        count = len(keys)
        if count - first <= 2 * _MIN_ENTRIES:
            return count
        page_size = self.page_size
        size = PAGE_HEADER_SIZE
        end = 0
        for index in range(first, count):
            size += ELEMENT_SIZE + len(keys[index]) + len(values[index])
            if size > threshold and not end and index >= first + _MIN_ENTRIES:
                end = min(index, count - _MIN_ENTRIES)
            if end and size >= page_size:
                return end
        return count

    def _branch_end(self, node: Node, first: int, threshold: int) -> int:
        keys = node.keys
        count = len(keys)
        if count - first <= 2 * _MIN_ENTRIES:
            return count
        size = PAGE_HEADER_SIZE
        end = 0
        for index in range(first, count):
            size += ELEMENT_SIZE + len(keys[index])
            if size > threshold and not end and index >= first + _MIN_ENTRIES:
                end = min(index, count - _MIN_ENTRIES)
            if end and size >= self.page_size:
                return end
        return count

    def _leaf_page(self, node: Node, first: int, last: int) -> int:
        """Allocate and encode one leaf page of the entries first..last-1."""
        body, size = leaf_body(node, first, last)
        pages = (size + self.page_size - 1) // self.page_size
        pgid = self._allocate(pages)
        body[0] = HEADER.pack(pgid, LEAF, last - first, pages - 1)
        body.append(self._zeros[: pages * self.page_size - size])
        self.images.append((pgid, b"".join(body)))
        return pgid

    def _branch_page(self, node: Node, first: int, last: int) -> int:
        keys = node.keys
        children = node.children
        count = last - first
        table: list[int] = []
        position = ELEMENT_SIZE * count
        for index in range(first, last):
            length = len(keys[index])
            table.append(position)
            table.append(length)
            table.append(children[index])
            table.append(0)
            position += length - ELEMENT_SIZE
        size = PAGE_HEADER_SIZE + ELEMENT_SIZE * count + position
        pages = (size + self.page_size - 1) // self.page_size
        pgid = self._allocate(pages)
        body = [HEADER.pack(pgid, BRANCH, count, pages - 1), table_of(count).pack(*table)]
        body += keys[first:last]
        body.append(self._zeros[: pages * self.page_size - size])
        self.images.append((pgid, b"".join(body)))
        return pgid


def leaf_body(node: Node, first: int, last: int) -> tuple[list[bytes], int]:
    """Return a leaf page's parts, the first one empty for the header, and its size."""
    keys = node.keys
    values = node.values
    count = last - first
    flags = node.flags
    table: list[int] = []
    body: list[bytes] = [b"", b""]
    position = ELEMENT_SIZE * count
    for index in range(first, last):
        key = keys[index]
        value = values[index]
        table.append(flags[index] if flags else 0)
        table.append(position)
        table.append(len(key))
        table.append(len(value))
        position += len(key) + len(value) - ELEMENT_SIZE
        body.append(key)
        body.append(value)
    body[1] = table_of(count).pack(*table)
    return body, PAGE_HEADER_SIZE + ELEMENT_SIZE * count + position


def inline_page(node: Node) -> bytes:
    """Return a leaf node as the inline page of a bucket."""
    body, _ = leaf_body(node, 0, len(node.keys))
    body[0] = HEADER.pack(0, LEAF, len(node.keys), 0)
    return b"".join(body)


class _Change:
    """One bucket's changes on their way through its tree."""

    def __init__(
        self, editor: Editor, keys: list[bytes], values: list[bytes | None], headers: dict[bytes, int], fill: float
    ) -> None:
        self.editor = editor
        self.pages = editor.pages
        self.keys = keys
        self.values = values
        self.headers = headers
        self.fill = fill
        self.small = int(editor.page_size * fill) // 2

    def page(self, pgid: int, low: int, high: int, depth: int) -> Node | None:
        """Apply the changes low..high-1 to the subtree at a page; None when nothing changed."""
        page = self.pages.load(pgid)
        base = pgid * self.pages.page_size
        if is_branch(page):
            if depth >= MAX_DEPTH:
                raise self.pages.fault(base, f"the tree is deeper than {MAX_DEPTH} pages")
            node = self._branch(page, base, low, high, depth)
        else:
            node = self.leaf(page, base, low, high)
        if node is not None:
            self.editor.release_page(page, pgid)
        return node

    def leaf(self, page: bytes, base: int, low: int, high: int) -> Node | None:
        """Apply changes to a leaf page."""
        node = Node(True)
        if self.pages.leaf(page, base, node.keys, node.values):
            node.flags = self.pages.leaf_flags(page)
        if not node.flags and not self.headers and (not node.keys or self.keys[low] > node.keys[-1]):
            for index in range(low, high):
                value = self.values[index]
                if value is not None:
                    node.keys.append(self.keys[index])
                    node.values.append(value)
            return node if len(node.keys) > (page[10] | page[11] << 8) else None
        return self._merge(node, low, high)

    def _merge(self, old: Node, low: int, high: int) -> Node | None:
        """Return the old entries with the changes among them."""
        node = Node(True)
        flagged = bool(old.flags or self.headers)
        old_flags = old.flags or ([0] * len(old.keys) if flagged else [])
        count = len(old.keys)
        changed = False
        at = 0  # the first old entry that is not taken over yet
        for index in range(low, high):
            key = self.keys[index]
            value = self.values[index]
            place = bisect_left(old.keys, key, at)
            if place > at:
                node.keys += old.keys[at:place]
                node.values += old.values[at:place]
                node.flags += old_flags[at:place]
                at = place
            hit = at < count and old.keys[at] == key
            if flagged and bool(hit and old_flags[at] & BUCKET_FLAG) and key not in self.headers:
                raise ValueError(f"incompatible value: {key!r} is a bucket")
            if hit:
                at += 1
            if value is not None:
                node.keys.append(key)
                node.values.append(value)
                if flagged:
                    node.flags.append(self.headers.get(key, 0))
                changed = True
            elif hit:
                node.shrunk = changed = True
        if not changed:
            return None
        node.keys += old.keys[at:]
        node.values += old.values[at:]
        node.flags += old_flags[at:]
        if not any(node.flags):
            node.flags = []
        return node

    def _branch(self, page: bytes, base: int, low: int, high: int, depth: int) -> Node | None:
        """Apply changes to the subtrees of a branch page."""
        keys = self.pages.branch_keys(page, base)
        children = self.pages.children(page, base)
        nodes: list[Node | None] = [None] * len(keys)
        changed = False
        while low < high:
            index = max(bisect_right(keys, self.keys[low]) - 1, 0)
            end = high
            if index + 1 < len(keys):
                # A page whose keys are out of order would divide the changes wrongly, without end.
                end = max(bisect_left(self.keys, keys[index + 1], low, high), low + 1)
            nodes[index] = self.page(children[index], low, end, depth + 1)
            changed = changed or nodes[index] is not None
            low = end
        if not changed:
            return None
        shrunk = self._join(keys, children, nodes)
        if depth == 0:
            if not nodes:
                return Node(True)
            if len(nodes) == 1 and nodes[0] is not None:
                return nodes[0]
        branch = Node(False)
        branch.shrunk = shrunk
        for index, node in enumerate(nodes):
            if node is None:
                branch.keys.append(keys[index])
                branch.children.append(children[index])
            else:
                self.editor.cut(node, self.fill, branch, 0)
        return branch

    def _join(self, keys: list[bytes], children: list[int], nodes: list[Node | None]) -> bool:
        """Drop the nodes that became empty and merge those that became too small; True when children went away."""
        before = len(nodes)
        index = 0
        while index < len(nodes):
            node = nodes[index]
            if node is not None and not node.keys:
                del keys[index], children[index], nodes[index]
                continue
            if node is None or not node.shrunk or len(nodes) == 1 or not self._is_small(node):
                index += 1
                continue
            left = max(index - 1, 0)
            target = self._node_at(children, nodes, left)
            target.extend(self._node_at(children, nodes, left + 1))
            target.shrunk = True
            del keys[left + 1], children[left + 1], nodes[left + 1]
            index = left
        return len(nodes) < before

    def _is_small(self, node: Node) -> bool:
        fewest = 1 if node.leaf else 2
        return len(node.keys) <= fewest or not node.is_larger(self.small)

    def _node_at(self, children: list[int], nodes: list[Node | None], index: int) -> Node:
        """Return a child as a node, reading it if it is still a page."""
        node = nodes[index]
        if node is not None:
            return node
        pgid = children[index]
        page = self.pages.load(pgid)
        base = pgid * self.pages.page_size
        node = Node(not is_branch(page))
        if node.leaf:
            if self.pages.leaf(page, base, node.keys, node.values):
                node.flags = self.pages.leaf_flags(page)
        else:
            node.keys = self.pages.branch_keys(page, base)
            node.children = self.pages.children(page, base)
        self.editor.release_page(page, pgid)
        nodes[index] = node
        return node
