// Writing the ranges of one slot; see rule_index_block.h.
#include "rule_index_block.h"

#include <algorithm>

namespace leadroute::core {

namespace {

// The nodes that together span a range.
template <typename Each>
void for_each_node(const Tree& tree, const Range& range, Each each) noexcept {
    const std::int64_t* points = tree.points;
    const std::int64_t* end = points + tree.point_count;
    std::uint32_t left =
        tree.leaves + static_cast<std::uint32_t>(std::upper_bound(points, end, range.lo) - points);
    std::uint32_t right =
        tree.leaves + 1 +
        static_cast<std::uint32_t>(std::upper_bound(points, end, range.hi) - points);
    for (; left < right; left /= 2, right /= 2) {
        if (left % 2 == 1)
            each(left++);
        if (right % 2 == 1)
            each(--right);
    }
}

// The rank of an inner node's point, in the order of all.
std::uint32_t point_rank(const Tree& tree, std::uint32_t node) noexcept {
    std::uint32_t first = 1;
    std::uint32_t step = tree.leaves;
    for (; 2 * first <= node; first *= 2)
        step /= 2;
    return (node - first) * step + step / 2 - 1;
}

void write_points(const Tree& tree, std::int64_t* points) noexcept {
    points[0] = 0;
    for (std::uint32_t node = 1; node < tree.leaves; node++) {
        std::uint32_t rank = point_rank(tree, node);
        points[node] = rank < tree.point_count ? tree.points[rank] : INT64_MAX;
    }
}

void write_nodes(const Tree& tree, const TreeHeader* header, TreeNode* nodes, std::uint32_t* items,
                 std::uint32_t* used) noexcept {
    auto at = [&](std::uint32_t node) { return &nodes[node_place(header, node)]; };
    std::memset(static_cast<void*>(nodes + tree.leaves), 0, sizeof(TreeNode) * 2 * tree.leaves);
    for (std::uint32_t i = 0; i < tree.count; i++)
        for_each_node(tree, tree.ranges[i], [&](std::uint32_t node) { at(node)->list++; });
    for (std::uint32_t node = 1; node < 2 * tree.leaves; node++) {
        if (node > 1)
            at(node)->up = at(node / 2)->list != 0 ? node / 2 : at(node / 2)->up;
        if (at(node)->list == 1)
            at(node)->list = kOnly;
        if (at(node)->list == 0 || at(node)->list == kOnly)
            continue;
        std::uint32_t count = at(node)->list;
        at(node)->list = *used;
        items[*used] = 0;
        *used += count + 1;
    }
    // ranges are in order of their rules, so each list is
    for (std::uint32_t i = 0; i < tree.count; i++)
        for_each_node(tree, tree.ranges[i], [&](std::uint32_t node) {
            std::uint32_t list = at(node)->list;
            if (list >= kOnly)
                at(node)->list = kOnly + tree.ranges[i].ordinal;
            else
                items[list + ++items[list]] = tree.ranges[i].ordinal;
        });
}

} // namespace

std::uint32_t tree_items(const Tree& tree) noexcept {
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < tree.count; i++)
        for_each_node(tree, tree.ranges[i], [&](std::uint32_t) { count++; });
    return count;
}

std::size_t tree_bytes(const Tree& tree) noexcept {
    return cache_aligned(sizeof(std::int64_t) * 3 * tree.leaves);
}

void write_tree(const Tree& tree, IndexHeader* index, const TreeHeader* header,
                std::uint32_t* used) noexcept {
    write_points(tree, index->at<std::int64_t>(header->points));
    write_nodes(tree, header, index->at<TreeNode>(header->points),
                index->at<std::uint32_t>(index->items), used);
}

} // namespace leadroute::core
