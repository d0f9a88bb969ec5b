"""SAM's mask decoder with adapters, which answers all prompts of all images in one pass."""

import torch
from torch import Tensor, nn

from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.modeling import MaskDecoder, TwoWayAttentionBlock, TwoWayTransformer


class AdapterTwoWayBlock(TwoWayAttentionBlock):
    """One layer of the decoder's transformer: token self-attention, then cross-attention both ways.

    One space adapter is shared by the three attentions, another adapter is parallel to the MLP. queries
    (M, T, D), keys (M, HW, D), and their positions -> the same two shapes.
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, skip_first_layer_pe: bool):
        super().__init__(dim, num_heads, mlp_dim, skip_first_layer_pe=skip_first_layer_pe)
        self.space_adapter = Adapter(dim, skip=True)
        self.mlp_adapter = Adapter(dim, skip=False)

    def look_at_itself(self, queries: Tensor, query_pe: Tensor) -> Tensor:
        """Self-attention of the tokens; the first layer has neither positions nor a residual, as in SAM."""
        if self.skip_first_layer_pe:
            return self.space_adapter(self.self_attn(q=queries, k=queries, v=queries))
        q = queries + query_pe
        return queries + self.space_adapter(self.self_attn(q=q, k=q, v=queries))

    def forward(
        self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        queries = self.norm1(self.look_at_itself(queries, query_pe))
        k = keys + key_pe
        seen = self.cross_attn_token_to_image(q=queries + query_pe, k=k, v=keys)
        queries = self.norm2(queries + self.space_adapter(seen))
        queries = self.norm3(queries + self.mlp(queries) + 0.5 * self.mlp_adapter(queries))
        answer = self.cross_attn_image_to_token(q=k, k=queries + query_pe, v=queries)
        return queries, self.norm4(keys + self.space_adapter(answer))


class AdapterTwoWay(TwoWayTransformer):
    """The decoder's transformer.

    Image (M, D, h, w), its positions (1, D, h, w), tokens (M, T, D) -> tokens (M, T, D), image (M, HW, D).
    """

    def __init__(self, depth: int, dim: int, num_heads: int, mlp_dim: int):
        super().__init__(0, dim, num_heads, mlp_dim)
        self.layers = nn.ModuleList(AdapterTwoWayBlock(dim, num_heads, mlp_dim, i == 0) for i in range(depth))
        self.space_adapter = Adapter(dim, skip=True)

    def forward(
        self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor
    ) -> tuple[Tensor, Tensor]:
        keys = image_embedding.flatten(2).transpose(1, 2)  # (M, D, h, w) -> (M, HW, D)
        key_pe = image_pe.flatten(2).transpose(1, 2)
        queries = point_embedding
        for layer in self.layers:
            queries, keys = layer(queries, keys, point_embedding, key_pe)
        seen = self.final_attn_token_to_image(q=queries + point_embedding, k=keys + key_pe, v=keys)
        return self.norm_final_attn(queries + self.space_adapter(seen)), keys


class PromptDecoder(MaskDecoder):
    """SAM's mask decoder for K prompts on each of N images at once: one mask (SAM's first) for each prompt.

    segment_anything's own decoder combines every image with every prompt; this one pairs them, so C classes
    of N images cost one pass over N C rows.
    """

    def __init__(self, dim: int, mlp_dim: int, depth: int = 2, num_heads: int = 8):
        super().__init__(transformer_dim=dim, transformer=AdapterTwoWay(depth, dim, num_heads, mlp_dim))

    def forward(self, embedding: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor) -> Tensor:
        """Answer the prompts.

        `embedding` (N, D, g, g) of the images, `image_pe` (1, D, g, g) their positions, `sparse` (N, K, T, D)
        and `dense` (N, K, D, g, g) the prompts -> mask logits (N, K, 4g, 4g); above 0 is inside.
        """
        n, k = sparse.shape[:2]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (5, D)
        tokens = torch.cat([own.expand(n * k, -1, -1), sparse.flatten(0, 1)], dim=1)
        image = (embedding.unsqueeze(1) + dense).flatten(0, 1)  # (N, K, D, g, g) -> (NK, D, g, g)
        tokens, pixels = self.transformer(image, image_pe, tokens)
        upscaled = self.output_upscaling(pixels.transpose(1, 2).reshape(image.shape))  # (NK, D/8, 4g, 4g)
        weights = self.output_hypernetworks_mlps[0](tokens[:, 1])  # the first mask token: (NK, D/8)
        return torch.einsum("md,mdhw->mhw", weights, upscaled).unflatten(0, (n, k))
